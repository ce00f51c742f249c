"""Where settings come from besides the environment: secrets, and the file that COS_CONFIG names."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

import pytest

from cos_ray.config.description import described
from cos_ray.config.environment import with_file
from cos_ray.config.settings import Settings
from cos_ray.domain.errors import ConfigurationError


def complaint(variable: str, value: str) -> str:
    with pytest.raises(ConfigurationError) as caught:
        Settings.from_environment({variable: value})
    return str(caught.value)


class TestSecrets:
    PASSWORD = "s3cr3t-and-long"

    def test_are_nowhere_to_be_read(self) -> None:
        environment = {"COS_DB_PASSWORD": self.PASSWORD}
        settings = Settings.from_environment(environment)
        assert settings.database.password.get_secret_value() == self.PASSWORD
        assert self.PASSWORD not in f"{settings!r} {settings} {described(settings, environment)}"

    def test_may_come_from_a_file(self, tmp_path: Path) -> None:
        file = tmp_path / "password"
        file.write_text(f"{self.PASSWORD} \n")
        environment = {"COS_DB_PASSWORD_FILE": str(file)}
        settings = Settings.from_environment(environment)
        assert settings.database.password.get_secret_value() == f"{self.PASSWORD} "
        (row,) = (row for row in described(settings, environment) if row.variable == "COS_DB_PASSWORD")
        assert (row.value, row.source) == ("******", "secret file")

    def test_may_come_from_a_file_with_a_byte_order_mark(self, tmp_path: Path) -> None:
        file = tmp_path / "password"
        file.write_text(self.PASSWORD, encoding="utf-8-sig")
        settings = Settings.from_environment({"COS_DB_PASSWORD_FILE": str(file)})
        assert settings.database.password.get_secret_value() == self.PASSWORD

    def test_come_from_one_place_only(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigurationError) as caught:
            Settings.from_environment(
                {"COS_DB_PASSWORD": self.PASSWORD, "COS_DB_PASSWORD_FILE": str(tmp_path)}
            )
        assert str(caught.value) == (
            f"COS_DB_PASSWORD_FILE is {str(tmp_path)!r}; allowed: either this or COS_DB_PASSWORD"
        )

    def test_in_an_address_are_masked(self) -> None:
        line = complaint("COS_DB_HOST", f"postgres://me:{self.PASSWORD}@db:5432/bank")
        assert self.PASSWORD not in line
        assert "COS_DB_HOST is 'postgres://******@db:5432/bank'" in line

    def test_in_a_file_that_is_no_yaml_are_not_quoted(self, tmp_path: Path) -> None:
        file = tmp_path / "cos.yaml"
        file.write_text(f'COS_DB_PASSWORD: "{self.PASSWORD}\n')
        line = complaint("COS_CONFIG", str(file))
        assert line.startswith(f"COS_CONFIG is {str(file)!r}; allowed: a YAML file (line ")
        assert self.PASSWORD not in line


class TestFile:
    def written(self, folder: Path, text: str) -> Mapping[str, str]:
        file = folder / "cos.yaml"
        file.write_text(text)
        return {"COS_CONFIG": str(file)}

    def test_has_the_same_names_and_the_environment_wins(self, tmp_path: Path) -> None:
        text = (
            "COS_PORT: 9100\nCOS_HTTP_PORT: 9101\nCOS_SUBSCRIPTION_ENABLED: true\nCOS_IDEMPOTENCY_TTL: 1h\n"
        )
        environment = {**self.written(tmp_path, text), "COS_PORT": "9200"}
        settings = Settings.from_environment(environment)
        assert (settings.service.port, settings.service.http_port) == (9200, 9101)
        assert settings.subscriptions.enabled
        assert settings.entities.idempotency_ttl == timedelta(hours=1)
        sources = {row.variable: row.source for row in described(settings, environment)}
        assert [sources[v] for v in ("COS_PORT", "COS_HTTP_PORT", "COS_ADDRESS")] == [
            "environment",
            "file",
            "default",
        ]

    def test_keeps_values_as_they_are_written(self, tmp_path: Path) -> None:
        environment = self.written(tmp_path, "COS_DB_PASSWORD: 0123\nCOS_DB_USER: off\n")
        database = Settings.from_environment(environment).database
        assert (database.password.get_secret_value(), database.user) == ("0123", "off")

    def test_may_have_lists(self, tmp_path: Path) -> None:
        environment = self.written(tmp_path, "COS_WRITE_PERSISTED_HEADERS: [x-a, x-b]\n")
        assert Settings.from_environment(environment).write_side.persisted_headers == ("x-a", "x-b")

    def test_may_be_empty(self, tmp_path: Path) -> None:
        assert Settings.from_environment(self.written(tmp_path, "# nothing\n")) == Settings()

    def test_read_twice_changes_nothing(self, tmp_path: Path) -> None:
        environment = {**self.written(tmp_path, "COS_PORT: 9100\n"), "COS_HTTP_PORT": "9200"}
        assert with_file(with_file(environment)) == with_file(environment)

    def test_may_begin_with_a_byte_order_mark(self, tmp_path: Path) -> None:
        environment = self.written(tmp_path, "\ufeffCOS_PORT: 9100\n")
        assert Settings.from_environment(environment).service.port == 9100

    @pytest.mark.parametrize(
        ("text", "allowed"),
        [
            (
                "COS_PORT: 9100\nCOS_DB_USER: a\nCOS_PORT: 9200\n",
                "a YAML file (line 3: COS_PORT is set twice, first in line 1)",
            ),
            (
                # Also where both say the same, and where the second is written otherwise.
                'COS_PORT: 9100\n"COS_PORT": 9100\n',
                "a YAML file (line 2: COS_PORT is set twice, first in line 1)",
            ),
            (
                "COS_DB_NAME: ~\nCOS_DB_USER: null\n",
                "a YAML file in which COS_DB_NAME, COS_DB_USER is a text, a number, true, false or a list",
            ),
            (
                "cos_port: 1\n1: 2\n",
                "a YAML file of variables: cos_port, 1 is no name of one (capitals, digits, _)",
            ),
            ("COS_PORT:\t1\n", "a YAML file (line 1: found character '\\t' that cannot start any token)"),
            ("COS_PORT: 1\n---\nCOS_PORT: 2\n", "a YAML file (line 2: but found another document)"),
            ("- COS_PORT\n", "a YAML file of variables and their values"),
            (
                "COS_PORT: {a: 1}\n",
                "a YAML file in which COS_PORT is a text, a number, true, false or a list",
            ),
        ],
    )
    def test_with_anything_else_is_refused(self, tmp_path: Path, text: str, allowed: str) -> None:
        environment = self.written(tmp_path, text)
        with pytest.raises(ConfigurationError) as caught:
            Settings.from_environment(environment)
        assert str(caught.value) == f"COS_CONFIG is {environment['COS_CONFIG']!r}; allowed: {allowed}"

    def test_that_is_no_text_or_cannot_be_read_is_refused(self, tmp_path: Path) -> None:
        file = tmp_path / "cos.yaml"
        file.write_bytes("COS_PORT: 9100\n".encode("utf-16"))
        assert "(it holds no readable text (UnicodeDecodeError))" in complaint("COS_CONFIG", str(file))
        assert complaint("COS_CONFIG", str(tmp_path)).endswith("a YAML file (is a directory)")
