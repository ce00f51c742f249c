"""
The file that says who may call what (COS_AUTH_FILE).

    tokens:
      - name: shop
        token_sha256: 5e88...                  # or token: ..., of at least 16 characters
        allow:
          - methods: [ProcessCommand, GetState]
            entities: [cart-]
    jwt:
      key_file: idp.pem                        # a public key, or a secret
      algorithms: [RS256]
      audience: cos_ray
      issuer: https://idp.example.com
      allow:                                   # whoever has a valid token
        - methods: [Get*]
      roles:                                   # whose token has the role in its claim `roles`
        support:
          - methods: ["*"]
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cos_ray.config.yaml_files import SafeLoader
from cos_ray.domain.authorization import AccessPolicy, Caller, JwtPolicy, Rule
from cos_ray.domain.errors import ConfigurationError

ALGORITHMS = (
    "HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512",
    "ES256", "ES384", "ES512", "EdDSA",
)  # fmt: skip
"""Those that sign; a token that is not signed is never valid."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)


class _Rule(_Part):
    methods: Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=1)]
    entities: list[str] = [""]


class _Token(_Part):
    name: Annotated[str, Field(min_length=1)]
    token: Annotated[str, Field(min_length=16)] | None = None
    token_sha256: Annotated[str, Field(pattern=r"^[0-9a-fA-F]{64}$")] | None = None
    allow: list[_Rule]


class _Jwt(_Part):
    key_file: Path
    algorithms: Annotated[list[str], Field(min_length=1)] = ["RS256"]
    audience: str | None = None
    issuer: str | None = None
    leeway_seconds: Annotated[float, Field(ge=0, le=600)] = 30.0
    allow: list[_Rule] = []
    roles_claim: str = "roles"
    roles: dict[str, list[_Rule]] = {}


class _File(_Part):
    tokens: list[_Token] = []
    jwt: _Jwt | None = None


def read_access_file(path: Path) -> AccessPolicy:
    """The policy in the file. Raises ConfigurationError with one line; it never shows a token."""
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), SafeLoader)  # noqa: S506 - it is safe
    except (OSError, UnicodeDecodeError) as error:
        raise _wrong(path, f"cannot be read ({error})") from error
    except yaml.constructor.ConstructorError as error:
        # It names a key and its lines, and no value.
        line = error.problem_mark.line + 1 if error.problem_mark else "?"
        raise _wrong(path, f"line {line}: {error.problem}") from error
    except yaml.YAMLError as error:
        raise _wrong(path, "is no YAML") from error
    try:
        file = _File.model_validate(content or {})
    except ValidationError as error:
        fault = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, fault["loc"])) or "the file"
        raise _wrong(path, f"{place}: {fault['msg']}") from error
    if not file.tokens and file.jwt is None:
        raise _wrong(path, "names neither tokens nor jwt: nobody could call anything")
    return AccessPolicy(_tokens(path, file.tokens), _jwt(path, file.jwt) if file.jwt else None)


def _tokens(path: Path, tokens: list[_Token]) -> dict[str, Caller]:
    callers: dict[str, Caller] = {}
    for entry in tokens:
        if (entry.token is None) == (entry.token_sha256 is None):
            raise _wrong(path, f"token of {entry.name}: give one of token and token_sha256")
        digest = (entry.token_sha256 or hashlib.sha256((entry.token or "").encode()).hexdigest()).lower()
        if digest in callers:
            raise _wrong(path, f"{callers[digest].name} and {entry.name} have the same token")
        callers[digest] = Caller(entry.name, _rules(entry.allow))
    return callers


def _jwt(path: Path, wanted: _Jwt) -> JwtPolicy:
    if unknown := sorted(set(wanted.algorithms) - set(ALGORITHMS)):
        raise _wrong(path, f"jwt.algorithms: {unknown[0]!r}; allowed: {', '.join(ALGORITHMS)}")
    if len({algorithm.startswith("HS") for algorithm in wanted.algorithms}) > 1:
        raise _wrong(path, "jwt.algorithms: a secret and a public key cannot be the same")
    # Beside this file, unless it says otherwise.
    key_file = path.parent / wanted.key_file
    try:
        key = key_file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise _wrong(path, f"jwt.key_file cannot be read ({error})") from error
    is_secret = wanted.algorithms[0].startswith("HS")
    if is_secret:
        key = key.strip()
        if len(key) < 32:
            raise _wrong(path, "jwt.key_file: a secret needs at least 32 characters")
    elif "-----BEGIN" not in key or "PRIVATE KEY" in key:
        raise _wrong(path, "jwt.key_file is no public key or certificate in PEM")
    return JwtPolicy(
        key=key,
        algorithms=tuple(wanted.algorithms),
        audience=wanted.audience,
        issuer=wanted.issuer,
        leeway=wanted.leeway_seconds,
        rules=_rules(wanted.allow),
        roles_claim=wanted.roles_claim,
        roles={role: _rules(rules) for role, rules in wanted.roles.items()},
    )


def _rules(rules: list[_Rule]) -> tuple[Rule, ...]:
    return tuple(Rule(tuple(rule.methods), tuple(rule.entities)) for rule in rules)


def _wrong(path: Path, reason: str) -> ConfigurationError:
    return ConfigurationError(f"COS_AUTH_FILE {str(path)!r}: {reason}")
