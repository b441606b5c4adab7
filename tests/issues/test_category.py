"""Whose fault an error is: by status, type, message, library, in this order."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from leeward.issues.category import CATEGORIES, CATEGORY_VERSION, category
from leeward.wire import native

BY_TYPE = {
    "network": [
        "httpx.ConnectError",
        "httpx.ReadTimeout",
        "httpx.ReadError",
        "httpx.RemoteProtocolError",
        "requests.exceptions.ConnectionError",
        "requests.exceptions.SSLError",
        "requests.exceptions.ProxyError",
        "urllib3.exceptions.MaxRetryError",
        "urllib3.exceptions.NameResolutionError",
        "urllib.error.URLError",
        "http.client.IncompleteRead",
        "aiohttp.client_exceptions.ClientConnectorError",
        "aiohttp.ClientConnectorDNSError",
        "aiohttp.ServerDisconnectedError",
        "openai.APIConnectionError",
        "anthropic.APITimeoutError",
        "slack_sdk.errors.SlackClientConnectionError",
        "telegram.error.NetworkError",
        "telegram.error.TimedOut",
        "smtplib.SMTPConnectError",
        "ConnectionRefusedError",
        "ConnectionResetError",
        "BrokenPipeError",
        "TimeoutError",
        "asyncio.TimeoutError",
        "socket.gaierror",
        "ssl.SSLCertVerificationError",
        "java.net.ConnectException",
        "java.net.UnknownHostException",
        "javax.net.ssl.SSLHandshakeException",
        "System.Net.Sockets.SocketException",
        "ECONNREFUSED",
        "NetworkError",
    ],
    "authentication": [
        "openai.AuthenticationError",
        "anthropic.PermissionDeniedError",
        "google.api_core.exceptions.Unauthenticated",
        "google.api_core.exceptions.PermissionDenied",
        "google.auth.exceptions.DefaultCredentialsError",
        "botocore.exceptions.NoCredentialsError",
        "smtplib.SMTPAuthenticationError",
        "jwt.exceptions.InvalidTokenError",
        "ExpiredTokenException",
        "discord.errors.Forbidden",
        "werkzeug.exceptions.Unauthorized",
        "oauthlib.oauth2.OAuth2Error",
        "InvalidApiKeyError",
    ],
    "provider": [
        "openai.RateLimitError",
        "anthropic.RateLimitError",
        "anthropic.APIStatusError",
        "anthropic.OverloadedError",
        "openai.BadRequestError",
        "openai.InternalServerError",
        "google.api_core.exceptions.ResourceExhausted",
        "google.genai.errors.ServerError",
        "mistralai.models.SDKError",
        "cohere.errors.NotFoundError",
        "litellm.exceptions.ContextWindowExceededError",
        "RateLimitError",
        "ThrottlingException",
    ],
    "mcp": [
        "mcp.shared.exceptions.McpError",
        "McpError",
        "MCPConnectionError",
        "fastmcp.exceptions.ToolError",
        "mcp.client.AuthenticationError",
    ],
    "channel": [
        "slack_sdk.errors.SlackApiError",
        "telegram.error.BadRequest",
        "discord.errors.HTTPException",
        "discord.RateLimited",
        "smtplib.SMTPRecipientsRefused",
        "aiosmtplib.errors.SMTPDataError",
        "twilio.base.exceptions.TwilioRestException",
        "WhatsAppError",
        "WebhookDeliveryError",
    ],
    "other": [
        "ValueError",
        "KeyError",
        "PermissionError",
        "TypeError",
        "AssertionError",
        "ClassLoaderError",
        "leeward.errors.ProtocolError",
        "email.errors.MessageParseError",
        "sqlalchemy.exc.IntegrityError",
        "",
    ],
}


@pytest.mark.parametrize(
    ("expected", "error_type"), [(name, error_type) for name, types in BY_TYPE.items() for error_type in types]
)
def test_the_type_says_what_happened(expected, error_type):
    assert category(error_type, "") == expected
    module, _, name = error_type.rpartition(".")
    assert category(name, "", module=module) == expected


@pytest.mark.parametrize(
    ("expected", "message"),
    [
        ("network", "connect ECONNREFUSED 127.0.0.1:5432"),
        ("network", "getaddrinfo ENOTFOUND api.example.com"),
        ("network", "fetch failed"),
        ("network", "Failed to fetch"),
        ("network", "socket hang up"),
        ("network", "dial tcp 10.0.0.1:443: i/o timeout"),
        ("network", "x509: certificate signed by unknown authority"),
        ("network", "[Errno -3] Temporary failure in name resolution"),
        ("network", "could not connect to server: Connection refused"),
        ("network", "The request timed out after 30 s"),
        ("authentication", "Error code: 401 - {'error': {'code': 'invalid_api_key'}}"),
        ("authentication", "Request failed with status code 403"),
        ("authentication", "401 Client Error: Unauthorized for url: https://api.example.com"),
        ("authentication", "Incorrect API key provided"),
        ("authentication", "{'ok': False, 'error': 'invalid_auth'}"),
        ("provider", "Rate limit reached for model m"),
        ("provider", "Overloaded"),
        ("provider", "You exceeded your current quota, please check your plan"),
        ("mcp", "MCP error -32000: Connection closed"),
        ("mcp", "the MCP server has ended"),
        ("channel", "the webhook answered with 500"),
        ("channel", "SMTP delivery was refused"),
        ("other", "Request failed with status code 503"),
        ("other", "Error code: 500 - the connection error of an upstream"),
        ("other", "Lock wait timeout exceeded; try restarting the transaction"),
        ("other", "[Errno 13] Permission denied: '/srv/data'"),
        ("other", "Unexpected token < in JSON at position 0"),
        ("other", "list index out of range"),
        ("other", ""),
    ],
)
def test_the_message_of_a_type_that_says_nothing_is_asked(expected, message):
    assert category("Error", message) == expected


@pytest.mark.parametrize(
    ("expected", "said"),
    [
        # A status that asks for another key comes before everything.
        ("authentication", {"error_type": "openai.RateLimitError", "message": "", "status": "401"}),
        ("authentication", {"error_type": "slack_sdk.errors.SlackApiError", "message": "", "status": "403"}),
        ("authentication", {"error_type": "mcp.McpError", "message": "", "status": "401"}),
        # A status is an answer, so the network has worked.
        ("provider", {"error_type": "TimeoutError", "message": "", "status": "504", "provider": "openai"}),
        ("other", {"error_type": "ConnectionError", "message": "", "status": "502"}),
        ("network", {"error_type": "ConnectionError", "message": "", "status": "error"}),
        # The type comes before the message.
        ("provider", {"error_type": "RateLimitError", "message": "the request timed out while waiting"}),
        ("network", {"error_type": "httpx.ConnectError", "message": "authentication was not reached"}),
        # The message comes before the library.
        ("authentication", {"error_type": "openai.APIError", "message": "invalid api key"}),
        ("network", {"error_type": "openai.APIError", "message": "Connection reset by peer"}),
        # A channel's rate limit is the channel's, whether it is called a provider or not.
        ("channel", {"error_type": "SlackRateLimitError", "message": ""}),
        ("channel", {"error_type": "RateLimitError", "message": "", "provider": "discord"}),
        ("channel", {"error_type": "ValueError", "message": "", "provider": "email"}),
        ("channel", {"error_type": "Error", "message": "", "provider": "slack", "status": "429"}),
        # A provider without a sign that it failed is only where it happened.
        ("provider", {"error_type": "HTTPError", "message": "", "provider": "acme", "status": "429"}),
        ("provider", {"error_type": "HTTPError", "message": "", "provider": "acme", "status": "500"}),
        ("other", {"error_type": "TypeError", "message": "", "provider": "acme"}),
        ("other", {"error_type": "HTTPError", "message": "", "status": "500"}),
        ("mcp", {"error_type": "RuntimeError", "message": "", "module": "mcp.client.stdio"}),
    ],
)
def test_the_order_of_the_rules(expected, said):
    assert category(said.pop("error_type"), said.pop("message"), **said) == expected


@given(st.text(), st.text(), st.text(), st.text(), st.text())
def test_every_error_has_a_category(error_type, message, status, provider, module):
    assert category(error_type, message, status=status, provider=provider, module=module) in CATEGORIES


def test_the_categories_are_those_of_the_native_wire():
    assert set(CATEGORIES) == set(native._CATEGORIES)
    assert CATEGORY_VERSION == 1


def test_a_long_message_is_read_so_far():
    assert category("Error", "x" * 1_000 + " econnrefused") == "other"
    assert category("Error", "x" * 900 + " econnrefused") == "network"
