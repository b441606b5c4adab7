"""Secrets by kind, the places where they are planted, and what only looks like one: for the scrubbers' tests."""

from __future__ import annotations

import base64
import collections
import dataclasses
import enum
import json
import pathlib
import random
import re
import string
import urllib.parse

LETTERS = string.ascii_letters + string.digits
chance = random.Random(24)


def word(length, letters=LETTERS):
    return "".join(chance.choices(letters, k=length))


def jwt():
    parts = ({"alg": "HS256", "typ": "JWT"}, {"sub": word(6), "admin": True})
    encoded_parts = [base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts]
    return ".".join([*encoded_parts, word(43, LETTERS + "-_")])


UPPER = string.ascii_uppercase + string.digits
HEX = "0123456789abcdef"
URL_SAFE = LETTERS + "-_"
PEM = "-----BEGIN RSA PRIVATE KEY-----\nMIIEowIBAAKCAQEA\n{}\nQ==\n-----END RSA PRIVATE KEY-----"
# What is planted, by kind: what stands around a secret, and the secret.
BY_FORM = {
    "openai": ("{}", lambda: "sk-" + word(48)),
    "openai project": ("{}", lambda: "sk-proj-" + word(80, URL_SAFE)),
    "openai, only small letters": ("{}", lambda: "sk-" + word(40, string.ascii_lowercase)),
    "anthropic": ("{}", lambda: "sk-ant-api03-" + word(80, URL_SAFE) + "AA"),
    "google": ("{}", lambda: "AIza" + word(35, URL_SAFE)),
    "aws": ("{}", lambda: "AKIA" + word(16, UPPER)),
    "aws, temporary": ("{}", lambda: "ASIA" + word(16, UPPER)),
    "github": ("{}", lambda: "ghp_" + word(36)),
    "github oauth": ("{}", lambda: "gho_" + word(36)),
    "github, fine-grained": ("{}", lambda: "github_pat_" + word(22) + "_" + word(59)),
    "gitlab": ("{}", lambda: "glpat-" + word(20, URL_SAFE)),
    "slack": ("{}", lambda: f"xoxb-{word(12, string.digits)}-{word(12, string.digits)}-{word(24)}"),
    "slack webhook": ("https://hooks.slack.com/services/{}", lambda: f"T{word(8)}/B{word(8)}/{word(24)}"),
    "stripe": ("{}", lambda: "sk_live_" + word(24)),
    "stripe, restricted": ("{}", lambda: "rk_live_" + word(24)),
    "hugging face": ("{}", lambda: "hf_" + word(34)),
    "groq": ("{}", lambda: "gsk_" + word(52)),
    "npm": ("{}", lambda: "npm_" + word(36)),
    "sendgrid": ("{}", lambda: f"SG.{word(22)}.{word(43)}"),
    "twilio": ("{}", lambda: "SK" + word(32, HEX)),
    "leeward": ("{}", lambda: "lw_" + word(32)),
    "posthog, personal": ("{}", lambda: "phx_" + word(43)),
    "jwt": ("{}", jwt),
    "pem": (PEM, lambda: word(64, LETTERS + "+/")),
    "telegram": ("123456789:{}", lambda: f"AA{word(33)}"),
    "card": ("{}", lambda: "4111111111111111"),
    "card in groups": ("{}", lambda: "5555 5555 5555 4444"),
    "card with hyphens": ("{}", lambda: "3782-822463-10005"),
    "bearer": ("Bearer {}", lambda: word(40)),
    "basic": ("Basic {}", lambda: base64.b64encode(f"user:{word(12)}".encode()).decode()),
    "address": ("postgres://app:{}@db.internal:5432/main", lambda: word(16)),
    "query": ("https://api.example.com/v1?page=2&api_key={}&sort=up", lambda: word(20)),
    "signed address": ("https://b.example.com/k?X-Amz-Date=1&X-Amz-Signature={}", lambda: word(64, HEX)),
    "assignment": ("DB_PASSWORD={}", lambda: word(14)),
    "assignment, quoted": ("client_secret = '{}'", lambda: word(14)),
    "configuration": ("password: {}", lambda: word(14)),
    "header": ("X-Api-Key: {}", lambda: word(14)),
    "authorization": ("Authorization: Token {}", lambda: word(14)),
    "cookie": ("Cookie: theme=dark; sid={}", lambda: word(20)),
    "json": ('{{"user": "a", "password": "{}"}}', lambda: word(14)),
}


def planted(kind):
    """A text with a secret, and the secret."""
    form, make = BY_FORM[kind]
    secret = make()
    return form.format(secret), secret


@dataclasses.dataclass
class Field:
    note: object


class Text(str):
    __slots__ = ()


def in_json(text):
    return json.dumps({"body": text, "status": 200})


def encoded(text):
    return base64.b64encode(text.encode()).decode()


# Where it is planted.
PLACES = {
    "value": lambda text: {"note": text},
    "in a sentence": lambda text: {"note": f"it was said: {text} and no more"},
    "list": lambda text: {"notes": [1, [text, None], "b"]},
    "nested": lambda text: {"a": {"b": {"c": [{"d": text}]}}},
    "tuple": lambda text: (1, (text,)),
    "set": lambda text: {"notes": {text}},
    "key": lambda text: {text[:180]: 1},
    "key of bytes": lambda text: {"a": {text.encode(): 1}},
    "key, a tuple": lambda text: {(1, text): 1},
    "bytes": lambda text: {"body": text.encode()},
    "bytearray": lambda text: {"body": bytearray(text.encode())},
    "str of its own": Text,
    "dataclass": lambda text: {"row": Field(text)},
    "enum": lambda text: enum.Enum("Kind", {"ONE": text}).ONE,
    "path": lambda text: pathlib.PurePosixPath("/srv", text),
    "exception": lambda text: {"error": ValueError(f"refused: {text}")},
    "traceback": lambda text: {
        "stack": f'  File "/srv/app.py", line 3, in go\n    call("{text}")\nValueError: {text}\n'
    },
    "repr": lambda text: {"call": f"call(timeout=3, data={text!r})"},
    "json": lambda text: {"body": in_json(text)},
    "json in json": lambda text: {"body": in_json({"inner": in_json(text)})},
    "json in json in json": lambda text: {"body": in_json([in_json([in_json(text)])])},
    "base64": lambda text: [encoded(text)],
    "base64 in a sentence": lambda text: {"body": f"sent {encoded('- ' + text)}, then slept"},
    "base64 for addresses": lambda text: {"url": f"/cb/{base64.urlsafe_b64encode(text.encode()).decode()}?page=1"},
    "base64 of json": lambda text: {"body": encoded(in_json(text))},
    "base64 twice": lambda text: {"body": encoded(encoded(text))},
    "header": lambda text: {"headers": {"X-Note": text}},
    "long text": lambda text: {"note": "All was well. " * 400 + text + " All was well." * 400},
    "many": lambda text: [{"id": number, "note": text} for number in range(20)],
}

# Names, as programs spell them.
WORDS = ["api key", "access token", "client secret", "db password", "private key", "session cookie", "auth header"]
SPELLINGS = {
    "snake": "_".join,
    "kebab": "-".join,
    "camel": lambda words: words[0] + "".join(word.title() for word in words[1:]),
    "pascal": lambda words: "".join(word.title() for word in words),
    "header": lambda words: "X-" + "-".join(word.title() for word in words),
    "environment": lambda words: "_".join(words).upper(),
    "dotted": lambda words: "app." + ".".join(words),
}
UNDER_NAMES = {
    "value": lambda name, text: {name: text},
    "among others": lambda name, text: {"a": 1, name: text, "b": "plain"},
    "bytes": lambda name, text: {name: text.encode()},
    "list": lambda name, text: {name: [text, 1]},
    "dict": lambda name, text: {name: {"left": text, "right": [text]}},
    "nested": lambda name, text: [{"a": [{name: text}]}],
    "pair": lambda name, text: {"headers": [(name, text), ("accept", "all")]},
    "pair of bytes": lambda name, text: [[name.encode(), text.encode()]],
    "name and value": lambda name, text: {"environment": [{"name": name, "value": text}]},
    "ordered": lambda name, text: collections.OrderedDict([(name, text)]),
    "dataclass": lambda name, text: dataclasses.make_dataclass("Row", [re.sub(r"\W", "_", name)])(text),
    "text": lambda name, text: {"line": f"started with {name}={text} in 3 s"},
    "code": lambda name, text: {"line": f'    {name} = "{text}"'},
    "json": lambda name, text: {"body": json.dumps({"a": 1, name: text})},
    "json in json": lambda name, text: {"body": in_json(json.dumps({name: text}))},
    "list in json": lambda name, text: {"body": json.dumps({name: ["x", text], "b": 1})},
    "repr of a dict": lambda name, text: {"line": repr({name: text})},
    "query": lambda name, text: {"url": f"https://example.com/x?a=1&{name}={text}&b=2"},
    "escaped query": lambda name, text: {"url": "/go?to=" + urllib.parse.quote(f"/x?{name}={text}")},
    "base64": lambda name, text: {"body": encoded(json.dumps({name: text}))},
}

HARMLESS_TEXTS = [
    "550e8400-e29b-41d4-a716-446655440000",
    "da39a3ee5e6b4b0d3255bfef95601890afd80709",
    "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "01JGZ4XQ6Y8V3M5N7P9R1T2W4X",
    "2026-01-02T03:04:05.678901+00:00",
    "1735689600000",
    "1735689600123456",
    "4111111111111112",
    "123456789012345678",
    "0.4111111111111111",
    "/usr/lib/python3.11/site-packages/package/sub_package/some_module_name.py",
    "C:\\Users\\someone\\AppData\\Local\\Programs\\program.exe",
    "someone@example.com",
    "https://api.example.com/v1/chat/completions?page=2&sort=created_at",
    "https://someone@example.com/path",
    "http://127.0.0.1:8123/?database=leeward",
    "message_completion_started_in_background",
    "SomeVeryLongClassNameOfAJavaProgramFactory",
    "sk-SK",
    "phc_" + "k" * 40,
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0.0.0 Safari/537.36",
    "prompt_tokens=12, completion_tokens: 345, max_tokens=1000",
    '{"usage": {"input_tokens": 12, "cache_key_count": 3, "token": 5, "secure": true, "secret": null}}',
    '{"session_id": "abcdefgh", "idempotency_key": "abcdefgh", "distinct_id": "abcdefgh", "fingerprint": "abc"}',
    "keyboard=qwerty&monkey=capuchin&author=somebody&tokenizer=cl100k_base",
    "KeyError: 'name'",
    "jwt.exceptions.InvalidTokenError: Signature has expired",
    "InvalidToken: not recognised",
    "Session: started at noon; Auth: passed",
    "lambda key: key.lower()",
    "    session = requests.Session()",
    "    token = get_token(user, scope)",
    "    auth=self.auth,",
    "call(session=session)",
    "std::Session::Key::new()",
    "The bearer of this letter has basic understanding: the secret of a good key is the lock, the password a word.",
    "Basic understanding of bearer responsibilities",
    "Please summarise: a token is a piece of text; keys open doors. " * 40,
    "lorem ipsum dolor sit amet, " * 100,
    "data:image/png;base64," + base64.b64encode(random.Random(7).randbytes(6_000)).decode(),
    base64.urlsafe_b64encode(random.Random(8).randbytes(6_000)).decode(),
    base64.b64encode(b"The quick brown fox jumps over the lazy dog").decode(),
    "ssh-ed25519",
    "\ud800 lone",
    "",
]

SECRET_NAMES = [
    "auth",
    "token",
    "secret",
    "password",
    "passwd",
    "pwd",
    "key",
    "jwt",
    "bearer",
    "sso",
    "saml",
    "csrf",
    "xsrf",
    "cookie",
    "credential",
    "session",
    "private",
    "secrets",
    "passwords",
    "credentials",
    "cookies",
    "api_keys",
    "keys",
    "apikey",
    "API_KEY",
    "apiKey",
    "X-Api-Key",
    "accessToken",
    "access_token",
    "Authorization",
    "proxy-authorization",
    "AWS_SECRET_ACCESS_KEY",
    "private_key",
    "db.password",
    "PGPASSWORD",
    "MYSQL_PWD",
    "dbpassword",
    "DB_PASS",
    "CSRFToken",
    "oauth2Token",
    "password1",
    "user-password-hash",
    "session_cookie",
    "tokens_secret",
    "GITHUB_TOKEN",
    "session_entry_token",
    "flag_secret",
    "authToken",
]
HARMLESS_NAMES = [
    "session_id",
    "sessionId",
    "SESSION-ID",
    "distinct_id",
    "tokens",
    "max_tokens",
    "maxTokens",
    "completion_tokens",
    "total-tokens",
    "token_count",
    "idempotency_key",
    "Idempotency-Key",
    "fingerprint",
    "keyboard",
    "monkey",
    "author",
    "authority",
    "tokenizer",
    "secretary",
    "passenger",
    "compass",
    "pass",
    "cookbook",
    "private_tokens",
    "public_key",
    "feature_flag.key",
    "cache.key",
    "messaging.kafka.message.key",
    "session.previous_id",
    "$session_entry_url",
    "$session_recording_start_reason",
    "primary_key",
    "foreign_key",
    "auth_method",
    "token_type",
    "created_at",
    "value",
    "name",
    "a",
]
