"""What the masker hides, what it leaves readable, and that it always answers, and soon."""

from __future__ import annotations

import json
import time
from collections import deque, namedtuple
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from urllib.parse import quote, quote_plus
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from dataloader.config import Settings
from dataloader.logger import Masker
from dataloader.logger.names import is_sensitive

SECRET = "hunter2"
MEGABYTE = 1_000_000

LEAKS = [
    "password=hunter2",
    "PASSWORD = hunter2",
    "Password: hunter2",
    "passwd=hunter2&user=bob",
    "pwd=hunter2;Database=x",
    "PGPASSWORD=hunter2 psql -h db",
    "db_password=hunter2",
    "user.password=hunter2",
    "--password=hunter2",
    "userPassword=hunter2",
    "password=hun,hunter2",
    "host=db password='hunter2' dbname=x",
    'host=db password="hun ter hunter2" dbname=x',
    r'password="a\"hunter2"',
    "password='unclosed hunter2",
    "Conn(host='db', password='hunter2', port=1)",
    "connect(password=hunter2)",
    "password => hunter2",
    "password := hunter2",
    'if token == "hunter2":',
    "client_secret=hunter2",
    "secret: hunter2",
    "access_token=hunter2",
    "https://api.example/x?token=hunter2&page=2",
    "https://api.example/x?page=2&api_key=hunter2#top",
    "url=https://api.example/x?apikey=hunter2",
    "https://s3.example/x?X-Amz-Signature=hunter2",
    "X-API-Key: hunter2",
    "private_key=hunter2",
    "credential: hunter2",
    "session=hunter2",
    "JSESSIONID=hunter2",
    "sessionid=hunter2",
    '{"password": "hunter2"}',
    '{"password":"hunter2","user":"bob"}',
    '{"apiKey" : "hunter2"}',
    '{"api_key": "line\\nhunter2"}',
    "{'password': 'hunter2'}",
    "{'password': b'hunter2'}",
    "{b'cookie': b'hunter2'}",
    r"{\"password\": \"hunter2\"}",
    r"'{\'password\': \'hunter2\'}'",
    '"tokens": ["first", "hunter2"]',
    '"credentials": {"user": "bob", "x": "hunter2"}',
    "[(b'host', b'x'), (b'authorization', b'hunter2')]",
    "('set-cookie', 'dl=hunter2')",
    "Authorization: Bearer hunter2",
    "Authorization: Basic hunter2",
    "authorization: Digest username=bob, response=hunter2",
    "Authorization=Token hunter2",
    "Proxy-Authorization: hunter2",
    "sent Bearer hunter2 and failed",
    "sent bearer hunter2",
    "sent Basic Ymhunter2== to it",
    "Cookie: a=b; dl_session=c; x=hunter2",
    "Set-Cookie: dl=hunter2; HttpOnly",
    "DL_DB_DSN=postgresql://bob@db/x?hunter2",
    "dsn: hunter2",
    "postgresql://bob:hunter2@db:5432/x",
    "redis://:hunter2@cache/0",
    "postgresql+asyncpg://bob:p@hunter2@db/x",
    "postgresql://bob:p/hunter2@db/x",
    "postgresql://bob:p:hunter2@db/x",
    "http://a/?next=http://bob:hunter2@db/",
    "kafka://a:x@h1,b:hunter2@h2/topic",
    "alter role bob password 'hunter2'",
    "ALTER ROLE bob WITH PASSWORD 'a hunter2'",
    "-----BEGIN RSA PRIVATE KEY-----\nMIIhunter2\n-----END RSA PRIVATE KEY-----",
    "-----BEGIN PRIVATE KEY-----\nMII-hunter2",
    "x" * 300 + "_password=hunter2",
]

READABLE = [
    "partition_key=2026-01-01",
    "lock_key: load.cbr",
    "idempotency_key=abc",
    '{"primary_key": "id", "foreign_key": "ref"}',
    "key=value",
    "token_count=5",
    "session_timeout: 30",
    "api_key_id=7",
    "author: Bob",
    "secretary: Ann",
    "passport=ok",
    "compass: north",
    "tokenizer=fast",
    "dsname=x",
    "the password was refused",
    "authorization failed",
    "Basic understanding of basic types",
    "https://example.com:8080/users/@bob",
    "https://example.com/a:b@c",
    "https://example.com:8080?mail=a@b.c",
    "postgresql://bob@db:5432/x",
    "2026-01-01T10:00:00Z level=info rows=1234",
    "password=",
    "",
]


@pytest.mark.parametrize("text", LEAKS)
def test_a_secret_is_recognised_by_what_stands_around_it(text: str) -> None:
    assert SECRET in text
    masked = Masker().text(text)
    assert SECRET not in masked
    assert "***" in masked


@pytest.mark.parametrize("text", READABLE)
def test_harmless_text_stays_as_it_is(text: str) -> None:
    assert Masker().text(text) == text


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("host=db password=x user=bob", "host=db password=*** user=bob"),
        ("connect(password=x)", "connect(password=***)"),
        ('{"password": "x", "user": "bob"}', '{"password": "***", "user": "bob"}'),
        (r"{\"token\": \"x\", \"n\": 1}", r"{\"token\": \"***\", \"n\": 1}"),
        ("{'token': b'x', 'n': 1}", "{'token': b'***', 'n': 1}"),
        ("/x?token=abc&page=2", "/x?token=***&page=2"),
        ("postgresql://bob:x@db:5432/y failed", "postgresql://bob:***@db:5432/y failed"),
        ("Cookie: a=b; c=d\nHost: x", "Cookie: ***\nHost: x"),
        ("Bearer abc, then", "Bearer ***, then"),
        (
            "-----BEGIN PRIVATE KEY-----\nMII\n-----BEGIN EC PRIVATE KEY-----\nMHc\n-----END EC PRIVATE KEY-----\nend",
            "-----BEGIN PRIVATE KEY-----***-----BEGIN EC PRIVATE KEY-----***\nend",
        ),
    ],
)
def test_what_stands_around_a_secret_stays(text: str, masked: str) -> None:
    assert Masker().text(text) == masked


@pytest.mark.parametrize("text", LEAKS)
def test_masked_text_can_be_masked_again(text: str) -> None:
    once = Masker().text(text)
    assert Masker().text(once) == once


@settings(deadline=None)
@given(st.text(min_size=4, max_size=30), st.text(), st.text())
def test_a_registered_secret_never_survives(secret: str, before: str, after: str) -> None:
    assert secret not in Masker([secret]).text(before + secret + after)


@settings(deadline=None)
@given(st.text(min_size=4, max_size=8, alphabet="*a"), st.text(alphabet="*a"))
def test_a_mask_never_forms_a_secret_anew(secret: str, text: str) -> None:
    assert secret not in Masker([secret]).text(text)


@settings(deadline=None)
@given(st.lists(st.text(min_size=4, max_size=6, alphabet="ab/"), min_size=2, max_size=4), st.text(alphabet="ab/"))
def test_overlapping_secrets_never_survive(secrets: list[str], text: str) -> None:
    masked = Masker(secrets).text(text)
    assert not [secret for secret in secrets if secret in masked]


@settings(deadline=None)
@given(st.text())
def test_any_text_gets_an_answer(text: str) -> None:
    assert isinstance(Masker(["abcd"]).text(text), str)


@pytest.mark.parametrize("spell", [quote, quote_plus, repr, json.dumps, lambda secret: quote(secret, safe="")])
def test_a_registered_secret_is_masked_in_every_spelling(spell: object) -> None:
    assert callable(spell)
    secret = 'p@ss/w "ö" \\ \n+'
    spelled = str(spell(secret)).strip("'") if spell is repr else str(spell(secret)).strip('"')
    assert Masker([secret]).text(f"<{spelled}>") == "<***>"


def test_secrets_too_short_to_tell_apart_are_not_registered() -> None:
    assert Masker(["abc"]).text("abc in abcdef") == "abc in abcdef"


def test_a_lone_surrogate_can_be_registered() -> None:
    assert Masker(["\ud800abc"]).text("<\ud800abc>") == "<***>"


HOSTILE: dict[str, Callable[[int], str]] = {
    "one word": lambda n: "a" * n + " token",
    "pairs": lambda n: "a=" * (n // 2) + "token",
    "distinct pairs": lambda n: "token=1 " + " ".join(f"n{i}=1" for i in range(n // 9)),
    "schemes": lambda n: "://" * (n // 3),
    "user infos": lambda n: "://a:" * (n // 5),
    "ats": lambda n: "://" + "a:@" * (n // 3),
    "open quotes": lambda n: 'password="' * (n // 10),
    "backslashes": lambda n: 'password="' + "\\" * n,
    "backslashes before the separator": lambda n: "password" + "\\" * n,
    "escaped quotes": lambda n: 'token\\"' * (n // 7),
    "spaces": lambda n: "token" + " " * n,
    "words": lambda n: "token " * (n // 6),
    "bearers": lambda n: "Bearer " * (n // 7),
    "spaces after bearer": lambda n: "Bearer" + " " * n,
    "basics": lambda n: "basic " + "a" * n,
    "keys begun": lambda n: "-----BEGIN PRIVATE KEY-----" * (n // 27),
    "begins": lambda n: "-----BEGIN " * (n // 11),
    "brackets": lambda n: "token=[" * (n // 7),
    "headers": lambda n: "cookie: x\n" * (n // 10),
    "separators": lambda n: "token" + "=" * n,
    "commas": lambda n: "token=" + "," * n,
    "humps": lambda n: "aB" * (n // 2) + "=token",
    "almost a secret": lambda n: "hunter" * (n // 6),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_text_takes_time_in_proportion_to_its_length(name: str) -> None:
    def cpu_s(length: int) -> float:
        masker, text = Masker([SECRET, "s3cr3t/x"]), HOSTILE[name](length)
        started_s = time.process_time()
        masker.text(text)
        return time.process_time() - started_s

    quarter_s, whole_s = (min(cpu_s(length) for _ in range(2)) for length in (MEGABYTE // 4, MEGABYTE))

    assert whole_s < 8 * quarter_s + 0.05


@pytest.mark.parametrize(
    "name",
    [
        "password",
        "PGPASSWORD",
        "dbPassword",
        "X-Api-Key",
        "accessToken",
        "APIKey",
        "Set-Cookie",
        "DL_DB_DSN",
        "sid_token",
        "password_hash",
        "auth",
        "smtp_pass",
        "AWS_SECRET_ACCESS_KEY",
        "credentials",
        "dl_session",
        "private-key",
    ],
)
def test_names_of_secrets_are_sensitive(name: str) -> None:
    assert is_sensitive(name)


@pytest.mark.parametrize(
    "name",
    ["key", "partition_key", "lock_key", "token_count", "author", "pass", "bypass", "monkey", "session_user", "", "_"],
)
def test_names_of_facts_are_not_sensitive(name: str) -> None:
    assert not is_sensitive(name)


class _Status(StrEnum):
    DONE = "done token=abc"


@dataclass
class _Connection:
    host: str
    password: str


_Login = namedtuple("_Login", ["user", "password"])


class _Broken:
    def __str__(self) -> str:
        raise RuntimeError("no text")


class _BrokenMapping(Mapping[str, object]):
    def __getitem__(self, key: str) -> object:
        raise KeyError(key)

    def __iter__(self) -> Iterator[str]:
        raise RuntimeError("no keys")

    def __len__(self) -> int:
        return 1


def test_values_under_sensitive_names_are_masked_at_every_depth() -> None:
    given_args = {"a": [{"password": "x", "n": 1}], "headers": {b"Cookie": b"x"}, "token": 7, "secret": {"deep": "x"}}
    assert Masker().value(given_args) == {
        "a": [{"password": "***", "n": 1}],
        "headers": {"Cookie": "***"},
        "token": "***",
        "secret": "***",
    }


def test_a_missing_secret_is_shown_as_missing() -> None:
    assert Masker().value({"password": None, "token": False}) == {"password": None, "token": False}


@pytest.mark.parametrize(
    ("obj", "masked"),
    [
        (("password", "x"), ("password", "***")),
        ([(b"cookie", b"x")], [("cookie", "***")]),
        ((1, "token=x", 3), (1, "token=***", 3)),
        (_Login("bob", "x"), {"user": "bob", "password": "***"}),
        (_Connection("db", "x"), "_Connection(host='db', password='***')"),
        (ValueError("token=x"), "ValueError: token=***"),
        (b"token=x", "token=***"),
        (bytearray(b"\xfftoken"), "\\xfftoken"),
        ({"token=x"}, ["token=***"]),
        (deque(["token=x"]), ["token=***"]),
        ({"token=x": 1}, {"token=***": 1}),
        ({(1, 2): 3}, {"(1, 2)": 3}),
        (_Status.DONE, "done token=***"),
        (SecretStr("hunter2"), "**********"),
        (float("nan"), "nan"),
        (1.5, 1.5),
        (None, None),
        (_Broken(), "<_Broken that cannot be shown: RuntimeError>"),
        ({"a": _Broken(), "b": 1}, {"a": "<_Broken that cannot be shown: RuntimeError>", "b": 1}),
        (_BrokenMapping(), "<_BrokenMapping that cannot be shown: RuntimeError>"),
    ],
)
def test_any_object_is_copied_with_its_secrets_masked(obj: object, masked: object) -> None:
    assert Masker().value(obj) == masked


def test_dates_and_ids_keep_their_type() -> None:
    facts = {"at": datetime(2026, 1, 1, tzinfo=UTC), "id": UUID(int=1)}
    assert Masker().value(facts) == facts


def test_the_given_object_is_left_alone() -> None:
    args = {"password": "x", "list": ["token=x"]}
    Masker().value(args)
    assert args == {"password": "x", "list": ["token=x"]}


def test_nesting_without_end_is_cut() -> None:
    endless: list[object] = []
    endless.extend([endless, endless])
    assert isinstance(Masker().value(endless), list)


def test_what_is_nested_too_deep_is_masked() -> None:
    deep: object = "hunter2"
    for _ in range(50):
        deep = [deep]
    assert SECRET not in str(Masker().value(deep))


def test_the_settings_secrets_are_known() -> None:
    given_settings = Settings(
        _env_file=None,
        pg_password=SecretStr("pgsecret"),
        dl_db_dsn=SecretStr("postgresql://bob:db%40secret@db/x"),
        dl_listen_dsn=SecretStr("postgresql://db/x?password=listensecret"),
    )
    masked = Masker.from_settings(given_settings).text("pgsecret db%40secret db@secret listensecret postgresql bob")
    assert masked == "*** *** *** *** postgresql bob"


def test_settings_without_secrets_mask_no_words() -> None:
    given_settings = Settings(_env_file=None, dl_listen_dsn=SecretStr("none"))
    assert Masker.from_settings(given_settings).text("none of the jobs") == "none of the jobs"
