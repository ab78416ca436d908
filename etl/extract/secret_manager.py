"""Read the API token from Secret Manager."""

from __future__ import annotations

from typing import TYPE_CHECKING

from etl.deadline import Deadline
from etl.errors import ConfigurationError, UpstreamError
from etl.settings import is_local_endpoint

if TYPE_CHECKING:
    from google.cloud.secretmanager_v1 import SecretManagerServiceClient

_TIMEOUT_SECONDS = 10.0
_TOTAL_SECONDS = 30.0


def read_secret(name: str, endpoint: str | None, deadline: Deadline) -> str:
    """The secret version `projects/P/secrets/S/versions/V` as text, without blanks around it.

    Raises ConfigurationError where it doesn't exist or may not be read, UpstreamError where Secret Manager can't be
    reached or its checksum doesn't fit the payload.
    """
    import google_crc32c
    import requests
    from google.api_core import exceptions, retry
    from google.auth.exceptions import GoogleAuthError, TransportError
    from google.protobuf.json_format import ParseError

    try:
        response = _client(endpoint).access_secret_version(
            name=name,
            # The client's own retry goes on for a minute against a dead endpoint.
            retry=retry.Retry(
                predicate=retry.if_exception_type(
                    exceptions.ServerError,
                    exceptions.TooManyRequests,
                    requests.ConnectionError,
                    requests.Timeout,
                ),
                initial=0.5,
                maximum=4.0,
                timeout=deadline.bound(_TOTAL_SECONDS),
            ),
            timeout=deadline.bound(_TIMEOUT_SECONDS),
        )
    except (exceptions.NotFound, exceptions.Forbidden, exceptions.Unauthenticated, exceptions.BadRequest) as error:
        raise ConfigurationError(
            f"the secret {name} can't be read: Secret Manager answered {error.code}. Check NEST_API_TOKEN_SECRET, that "
            "the version is enabled, and that the function's account has roles/secretmanager.secretAccessor on it."
        ) from None
    except GoogleAuthError as error:
        if isinstance(error, TransportError):
            raise UpstreamError(f"no credentials for Secret Manager can be had now: {type(error).__name__}") from None
        raise ConfigurationError(
            f"no credentials to read the secret {name} with ({type(error).__name__}): run as a service "
            "account, or run `gcloud auth application-default login`"
        ) from None
    except ParseError:
        raise UpstreamError(f"Secret Manager's answer for {name} can't be read: it is no secret version") from None
    except (exceptions.GoogleAPIError, OSError) as error:
        deadline.check()
        raise UpstreamError(f"Secret Manager can't be reached for {name}: {type(error).__name__}") from None
    data = response.payload.data
    if response.payload.data_crc32c != google_crc32c.value(data):
        raise UpstreamError(f"the secret {name} arrived damaged: its checksum doesn't fit. Run again.")
    try:
        return data.decode("ascii").strip()
    except UnicodeDecodeError:
        raise ConfigurationError(f"the secret {name} holds bytes that no token has: store the bare token") from None


def _client(endpoint: str | None) -> SecretManagerServiceClient:
    from google.auth.credentials import AnonymousCredentials
    from google.cloud.secretmanager_v1 import SecretManagerServiceClient

    # REST: gRPC costs a further 0.1 s to import, and its threads don't survive a fork.
    return SecretManagerServiceClient(
        transport="rest",
        credentials=AnonymousCredentials() if is_local_endpoint(endpoint) else None,  # type: ignore[no-untyped-call]
        client_options={"api_endpoint": endpoint} if endpoint else None,
    )
