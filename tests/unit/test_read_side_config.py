"""Read sides from variables and files, and what is said when something is wrong with them."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path

import pytest

from cos_ray.config.read_sides import FailurePolicy, Protocol, ReadSideConfig, read_sides_from
from cos_ray.domain.errors import ConfigurationError
from cos_ray.domain.failure_policy import Backoff, DeliveryPolicy, LastResort

MS, SECOND = timedelta(milliseconds=1), timedelta(seconds=1)
FIVE = Backoff(SECOND * 5, SECOND * 5)
ON = {"COS_READ_SIDE_ENABLED": "true"}


def from_variables(**variables: str) -> tuple[ReadSideConfig, ...]:
    return read_sides_from(ON | {f"COS_READ_SIDE_CONFIG__{name}": value for name, value in variables.items()})


def from_path(path) -> tuple[ReadSideConfig, ...]:
    return read_sides_from(ON | {"COS_READ_SIDE_CONFIG": str(path)})


def from_yaml(tmp_path, text: str) -> tuple[ReadSideConfig, ...]:
    file = tmp_path / "sides.yml"
    file.write_text(text)
    return from_path(file)


def fault(read, *arguments, **keywords) -> str:
    with pytest.raises(ConfigurationError) as caught:
        read(*arguments, **keywords)
    message = str(caught.value)
    assert "\n" not in message
    return message


MINIMAL = "readSideId: {id}\nhost: handler\nport: 50053\n"


class TestSwitch:
    @pytest.mark.parametrize(
        "switch", [{}, {"COS_READ_SIDE_ENABLED": "false"}, {"COS_READ_SIDE_ENABLED": ""}]
    )
    def test_without_the_switch_nothing_is_read(self, switch):
        assert read_sides_from({"COS_READ_SIDE_CONFIG__NONSENSE__X": "1", **switch}) == ()

    def test_a_switch_that_is_neither_on_nor_off_is_refused(self):
        message = fault(read_sides_from, {"COS_READ_SIDE_ENABLED": "maybe"})
        assert message == "COS_READ_SIDE_ENABLED is 'maybe'; allowed: true, false"

    def test_switched_on_without_any_configured_is_worth_a_warning(self, caplog):
        assert read_sides_from(ON) == ()
        assert "read sides are enabled but none are configured" in caplog.text


class TestVariables:
    def test_host_and_port_suffice(self):
        assert from_variables(HOST__RS1="handler", PORT__RS1="50053") == (
            ReadSideConfig(
                read_side_id="RS1",
                protocol=Protocol.GRPC,
                host="handler",
                port=50053,
                use_tls=False,
                timeout=timedelta(seconds=30),
                auto_start=True,
                enabled=True,
                failure_policy=FailurePolicy.NONE,
            ),
        )

    def test_every_setting_is_taken(self):
        (read_side,) = from_variables(
            PROTOCOL__W="HTTP",
            HOST__W=" h ",
            PORT__W="1",
            USE_TLS__W="TRUE",
            TIMEOUT__W="1500",
            AUTO_START__W="false",
            ENABLED__W="False",
            FAILURE_POLICY__W="replay-skip",
        )
        assert read_side == ReadSideConfig(
            "W",
            Protocol.HTTP,
            "h",
            1,
            True,
            timedelta(milliseconds=1500),
            False,
            False,
            FailurePolicy.REPLAY_SKIP,
        )

    def test_ids_may_hold_hyphens_and_underscores_even_two(self):
        read_sides = from_variables(
            HOST__DB_WRITER="h", PORT__DB_WRITER="1", **{"USE_TLS__a-b__c": "true", "HOST__a-b__c": "h"},
            **{"PORT__a-b__c": "2"},
        )  # fmt: skip
        assert [(each.read_side_id, each.port) for each in read_sides] == [("DB_WRITER", 1), ("a-b__c", 2)]

    def test_empty_variables_count_as_not_set(self):
        (read_side,) = from_variables(HOST__X="h", PORT__X="1", TIMEOUT__X="", FAILURE_POLICY__X=" ")
        assert (read_side.timeout, read_side.failure_policy) == (timedelta(seconds=30), FailurePolicy.NONE)

    def test_a_missing_host_or_port_is_told_in_coss_words(self):
        assert fault(from_variables, PORT__RS1="1").startswith("readside RS1 is missing a HOST")
        message = fault(from_variables, HOST__RS1="h")
        assert message == "readside RS1 is missing a PORT (COS_READ_SIDE_CONFIG__PORT__RS1)"

    def test_an_unknown_setting_is_told_in_coss_words_with_those_known(self):
        message = fault(from_variables, HOST__RS1="h", PORT__RS1="1", GRPC_SOME_SETTING__RS1="x")
        assert message.startswith("GRPC_SOME_SETTING is a not valid read side env var key")
        assert "COS_READ_SIDE_CONFIG__GRPC_SOME_SETTING__RS1" in message
        assert "PROTOCOL, HOST, PORT, USE_TLS, TIMEOUT, AUTO_START, ENABLED, FAILURE_POLICY" in message

    def test_a_variable_without_setting_is_told_in_coss_words(self):
        message = fault(from_variables, __RS1="h")
        assert message.startswith("Setting must be defined in COS_READ_SIDE_CONFIG____RS1")

    @pytest.mark.parametrize("name", ["HOST", "HOST__", ""])
    def test_a_variable_without_id_is_refused(self, name):
        assert f"COS_READ_SIDE_CONFIG__{name} names no read side" in fault(from_variables, **{name: "h"})

    @pytest.mark.parametrize("id_", ["a b", "ä", "a.b", "x" * 256])
    def test_an_id_of_other_characters_is_refused(self, id_):
        assert "letters, digits" in fault(from_variables, **{f"HOST__{id_}": "h"})

    @pytest.mark.parametrize(
        ("setting", "value", "allowed"),
        [
            ("PORT", "0", "a whole number from 1 to 65535"),
            ("PORT", "65536", "a whole number from 1 to 65535"),
            ("PORT", "abc", "a whole number from 1 to 65535"),
            ("PORT", "1_0", "a whole number from 1 to 65535"),
            ("PORT", "-1", "a whole number from 1 to 65535"),
            ("TIMEOUT", "10s", "a whole number from 1 to 86400000 (milliseconds)"),
            ("TIMEOUT", "0", "a whole number from 1 to 86400000 (milliseconds)"),
            ("USE_TLS", "yes", "true, false"),
            ("AUTO_START", "1", "true, false"),
            ("ENABLED", "on", "true, false"),
            ("PROTOCOL", "thrift", "grpc, http"),
            ("CONCURRENCY", "0", "a whole number from 1 to 10000"),
            ("FAILURE_POLICY", "RETRY", "none, STOP, SKIP, REPLAY_STOP, REPLAY_SKIP, PARK"),
            ("HOST", "http://handler", "a host name or address, without scheme and port"),
            ("HOST", "handler:50053", "a host name or address, without scheme and port"),
            *(
                ("HOST", host, "a host name or address, without scheme and port")
                for host in (
                    "${HOST}",
                    "$HOST",
                    '"h"',
                    "[::1]",
                    "a b",
                    "a..b",
                    "-h",
                    "a,b",
                    "me@h",
                    "*",
                    "bücher",
                )
            ),
            ("PORT", "${PORT}", "a whole number from 1 to 65535"),
        ],
    )
    def test_a_wrong_value_is_named_with_its_variable_and_what_is_allowed(self, setting, value, allowed):
        message = fault(from_variables, **{"HOST__X": "h", "PORT__X": "1", f"{setting}__X": value})
        assert message == f"readside X: COS_READ_SIDE_CONFIG__{setting}__X is '{value}'; allowed: {allowed}"

    def test_an_ipv6_address_is_a_host(self):
        assert from_variables(HOST__X="fe80::1", PORT__X="1")[0].host == "fe80::1"

    def test_a_value_with_a_line_break_still_makes_one_line(self):
        assert "'a\\nb'" in fault(from_variables, HOST__X="a\nb", PORT__X="1")


class TestFiles:
    def test_one_file_holds_several_read_sides(self, tmp_path):
        text = """
        # the first
        readSideId: read-side-1
        protocol: grpc
        host: read-handler
        port: 50053
        useTls: true
        timeout: 1000
        autoStart: false
        enabled: true
        failurePolicy: SKIP
        ---
        readSideId: "2"
        host: 'other'
        port: "8080"
        failurePolicy: ~
        ---
        """.replace("        ", "")
        first, second = from_yaml(tmp_path, text)
        assert first == ReadSideConfig(
            "read-side-1",
            Protocol.GRPC,
            "read-handler",
            50053,
            True,
            timedelta(seconds=1),
            False,
            True,
            FailurePolicy.SKIP,
        )
        assert (second.read_side_id, second.host, second.port) == ("2", "other", 8080)
        assert second.failure_policy is FailurePolicy.NONE

    def test_an_id_that_looks_like_a_number_is_taken_as_written(self, tmp_path):
        assert from_yaml(tmp_path, MINIMAL.format(id="007"))[0].read_side_id == "007"

    def test_a_folder_is_read_with_its_sub_folders(self, tmp_path):
        (tmp_path / "deep" / "er").mkdir(parents=True)
        (tmp_path / "b.yml").write_text(MINIMAL.format(id="b"))
        (tmp_path / "deep" / "er" / "a.YAML").write_text(MINIMAL.format(id="a"))
        (tmp_path / "readme.txt").write_text("no yaml: [")
        (tmp_path / ".hidden.yml").write_text(MINIMAL.format(id="hidden"))
        (tmp_path / ".git").mkdir()
        (tmp_path / ".git" / "x.yml").write_text(MINIMAL.format(id="hidden"))
        assert [each.read_side_id for each in from_path(tmp_path)] == ["b", "a"]

    def test_a_mounted_config_map_is_read_once(self, tmp_path):
        data = tmp_path / "..2026_01_01"
        (data / "sub").mkdir(parents=True)
        (data / "a.yml").write_text(MINIMAL.format(id="a"))
        (data / "sub" / "b.yml").write_text(MINIMAL.format(id="b"))
        (tmp_path / "..data").symlink_to("..2026_01_01")
        (tmp_path / "a.yml").symlink_to("..data/a.yml")
        (tmp_path / "sub").symlink_to("..data/sub")
        assert [each.read_side_id for each in from_path(tmp_path)] == ["a", "b"]

    def test_links_in_a_circle_are_no_trap(self, tmp_path):
        (tmp_path / "a.yml").write_text(MINIMAL.format(id="a"))
        (tmp_path / "b").symlink_to(tmp_path)
        assert [each.read_side_id for each in from_path(tmp_path)] == ["a"]

    def test_files_count_before_variables(self, tmp_path, caplog):
        file = tmp_path / "a.yml"
        file.write_text(MINIMAL.format(id="a"))
        variables = {"COS_READ_SIDE_CONFIG": str(file), "COS_READ_SIDE_CONFIG__HOST__X": "h"}
        assert [each.read_side_id for each in read_sides_from(ON | variables)] == ["a"]
        assert "variables are ignored" in caplog.text

    @pytest.mark.parametrize("text", ["", "---\n---\n", "# nothing\n"])
    def test_a_file_without_read_sides_is_worth_a_warning(self, tmp_path, text, caplog):
        assert from_yaml(tmp_path, text) == ()
        assert "none are configured" in caplog.text

    def test_a_path_that_does_not_exist_is_refused(self, tmp_path):
        message = fault(from_path, tmp_path / "nowhere")
        assert message.startswith(f"COS_READ_SIDE_CONFIG is '{tmp_path}/nowhere', which does not exist")

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("readSideId: a\nport: 1\n", "readside a is missing a HOST (host in {file}, line 1)"),
            ("\nreadSideId: a\nhost: h\nport:\n", "readside a is missing a PORT (port in {file}, line 2)"),
            ("host: h\nport: 1\n", "the readside at {file}, line 1, is missing a readSideId"),
            (
                "readSideId: a\nhost: h\nport: http\n",
                "readside a: port in {file}, line 3 is 'http'; allowed: a whole number from 1 to 65535",
            ),
            (
                "readSideId: a\nhost: h\nport: 1\ntls: true\n",
                "readside a: tls in {file}, line 4, is a not valid read side key; allowed: readSideId, "
                "protocol, host, port, useTls, timeout, autoStart, enabled, failurePolicy, failureRetries, "
                "failureDelay, concurrency, handler",
            ),
            (
                "readSideId: a\nhost: h\nhost: i\nport: 1\n",
                "readside a: host in {file}, line 3, is set twice (first in line 2); allowed: once",
            ),
            (
                "readSideId: a\nhost: [h]\nport: 1\n",
                "readside a: host in {file}, line 2, is a list or a mapping; allowed: a single value",
            ),
            (
                "- readSideId: a\n",
                "{file}, line 1, is no read side; allowed: settings as key: value",
            ),
            (
                MINIMAL.format(id="a") + "---\n" + MINIMAL.format(id="a"),
                "readside a is configured twice: {file}, line 1 and {file}, line 5; allowed: once",
            ),
        ],
    )
    def test_what_is_wrong_is_named_with_file_and_line(self, tmp_path, text, message):
        assert fault(from_yaml, tmp_path, text) == message.format(file=tmp_path / "sides.yml")

    @pytest.mark.parametrize("text", ["a: [", "a: b: c", "\tx: 1", "a: \x01"])
    def test_what_is_no_yaml_is_told_in_one_line(self, tmp_path, text):
        message = fault(from_yaml, tmp_path, text)
        assert str(tmp_path / "sides.yml") in message
        assert "is no valid YAML" in message

    def test_the_same_id_in_two_files_is_refused_with_both_named(self, tmp_path):
        for name in ("one.yml", "two.yml"):
            (tmp_path / name).write_text(MINIMAL.format(id="same"))
        message = fault(from_path, tmp_path)
        assert "same is configured twice" in message
        assert "one.yml" in message
        assert "two.yml" in message

    def test_bytes_that_are_no_text_are_told_in_one_line(self, tmp_path):
        (tmp_path / "sides.yml").write_bytes(b"host: \xff\xfe\x00")
        assert "is no valid YAML" in fault(from_path, tmp_path)


class TestPolicies:
    @pytest.mark.parametrize(
        ("variables", "policy"),
        [
            ({}, DeliveryPolicy()),
            ({"FAILURE_DELAY__X": "100"}, DeliveryPolicy(waits=Backoff(MS * 100, SECOND * 30))),
            ({"FAILURE_DELAY__X": "60000"}, DeliveryPolicy(waits=Backoff(SECOND * 60, SECOND * 60))),
            ({"FAILURE_POLICY__X": "STOP"}, DeliveryPolicy(0, FIVE, LastResort.STOP)),
            ({"FAILURE_POLICY__X": "SKIP"}, DeliveryPolicy(0, FIVE, LastResort.SKIP)),
            ({"FAILURE_POLICY__X": "REPLAY_STOP"}, DeliveryPolicy(5, FIVE, LastResort.STOP)),
            ({"FAILURE_POLICY__X": "replay-skip"}, DeliveryPolicy(5, FIVE, LastResort.SKIP)),
            ({"FAILURE_POLICY__X": "PARK"}, DeliveryPolicy(5, FIVE, LastResort.PARK)),
            (
                {"FAILURE_POLICY__X": "PARK", "FAILURE_RETRIES__X": "0", "FAILURE_DELAY__X": "1000"},
                DeliveryPolicy(0, Backoff(SECOND, SECOND), LastResort.PARK),
            ),
        ],
    )
    def test_counts_and_delays_are_those_of_the_policy_unless_told_otherwise(self, variables, policy):
        assert from_variables(HOST__X="h", PORT__X="1", **variables)[0].policy == policy

    @pytest.mark.parametrize(
        ("variables", "setting"),
        [
            ({"FAILURE_RETRIES__X": "1"}, "FAILURE_RETRIES"),
            ({"FAILURE_POLICY__X": "STOP", "FAILURE_DELAY__X": "1"}, "FAILURE_DELAY"),
            ({"FAILURE_POLICY__X": "SKIP", "FAILURE_RETRIES__X": "1"}, "FAILURE_RETRIES"),
        ],
    )
    def test_what_the_policy_leaves_without_a_meaning_is_refused(self, variables, setting):
        message = fault(from_variables, HOST__X="h", PORT__X="1", **variables)
        assert message.startswith(f"readside X: COS_READ_SIDE_CONFIG__{setting}__X is set; allowed: leaving")


class TestHandlersInPython:
    def test_a_class_needs_neither_host_nor_port(self):
        (read_side,) = from_variables(HANDLER__X="shop.balances:Balances", CONCURRENCY__X="4")
        assert (read_side.handler, read_side.concurrency) == ("shop.balances:Balances", 4)

    def test_in_yaml_too(self, tmp_path):
        (read_side,) = from_yaml(tmp_path, "readSideId: x\nhandler: a.b:C\n")
        assert read_side.handler == "a.b:C"

    @pytest.mark.parametrize("setting", ["HOST", "PORT", "PROTOCOL", "USE_TLS"])
    def test_with_an_address_beside_it_nobody_could_tell_what_is_meant(self, setting):
        value = {"HOST": "h", "PORT": "1", "PROTOCOL": "grpc", "USE_TLS": "true"}[setting]
        message = fault(from_variables, HANDLER__X="a:B", **{f"{setting}__X": value})
        assert setting in message
        assert "the handler runs inside the service" in message

    @pytest.mark.parametrize("value", ["a", "a.B", "a:b:c", ":B", "a-b:C"])
    def test_what_names_no_class_is_refused(self, value):
        assert "allowed: package.module:Class" in fault(from_variables, HANDLER__X=value)


def test_the_example_in_the_docs_is_what_it_says(tmp_path):
    page = Path(__file__).resolve().parents[2] / "docs/howto/read-sides.md"
    (example,) = re.findall(r"```yaml\n(readSideId: .*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    balances, search, statements = from_yaml(tmp_path, example)
    assert balances.policy.last_resort is LastResort.PARK
    assert (search.protocol, search.timeout, search.concurrency) == (Protocol.HTTP, SECOND * 5, 16)
    assert statements.handler == "cos_ray.samples.bank.postgres_read_handler:Statements"
