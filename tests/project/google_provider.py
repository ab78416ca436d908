"""What the real Google provider refuses, and its schema doesn't say: rules that it holds in code.

Where the provider can't be had, `terraform test` knows its schema alone, and mocks let anything pass. So each planned
and applied value is held against these. They are the `ValidateFunc`s of hashicorp/terraform-provider-google 7.45.0
(google/services/SERVICE/..., google/tpgiamresource, google/verify/validation.go) for the attributes that terraform/
sets. What comes from another resource has the form in which Google Cloud names it, also where the provider looks less
closely: there a mock that has no real form shows itself.
"""

import ipaddress
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Rule:
    """What a value must be, in words and as a test."""

    must: str
    holds: Callable[[Any], bool]


def form(pattern: str) -> Rule:
    return Rule(f"match {pattern}", lambda value: re.fullmatch(pattern, value, re.ASCII) is not None)


def one_of(*choices: str) -> Rule:
    return Rule(f"be one of {', '.join(choices)}", lambda value: value in choices)


def within(low: int, high: int) -> Rule:
    return Rule(f"be from {low} to {high}", lambda value: low <= value <= high)


def readable(must: str, read: Callable[[Any], object]) -> Rule:
    def holds(value: Any) -> bool:
        try:
            read(value)
        except ValueError:
            return False
        return True

    return Rule(must, holds)


def _range(text: str) -> object:
    if not re.fullmatch("[^/]+/[0-9]{1,3}", text):
        raise ValueError(text)
    return ipaddress.ip_network(text, strict=False)


BASE64 = form("([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?")
CIDR = readable("be addresses, such as 10.8.0.0/26", _range)
JSON = readable("be JSON", json.loads)
HEADERS = Rule(
    "set neither Content-Length nor Google's own headers",
    lambda value: not any(re.search("^Content-Length$|X-Google-|X-AppEngine-", header) for header in value),
)

_PROJECT = r"([a-z0-9.-]+:)?[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"
_NAME = r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?"
_EMAIL = r"[a-z][-a-z0-9]{4,28}[a-z0-9]@[-a-z0-9.]{1,63}\.iam\.gserviceaccount\.com"
EMAIL = form(_EMAIL)
NETWORK = form(rf"projects/{_PROJECT}/global/networks/{_NAME}")
SUBNETWORK = form(rf"projects/{_PROJECT}/regions/{_NAME}/subnetworks/{_NAME}")
SECRET = form(rf"projects/{_PROJECT}/secrets/[A-Za-z0-9_-]{{1,255}}")
SERVICE_URI = form(r"https://[-a-z0-9.]+\.run\.app")
MEMBER = {"member": form(rf"serviceAccount:{_EMAIL}|(user|group):[^@\s]+@[^@\s]+|principal(Set)?://\S+")}

RULES: dict[str, dict[str, Rule]] = {
    "google_bigquery_dataset": {"dataset_id": form(r"\w{1,1024}")},
    "google_bigquery_dataset_iam_member": MEMBER,
    "google_cloud_run_v2_service_iam_member": MEMBER,
    "google_cloud_scheduler_job": {
        "http_target.body": BASE64,
        "http_target.headers": HEADERS,
        "http_target.oidc_token.audience": SERVICE_URI,
        "http_target.oidc_token.service_account_email": EMAIL,
        "http_target.uri": SERVICE_URI,
    },
    "google_cloudfunctions2_function": {
        "build_config.service_account": form(rf"projects/{_PROJECT}/serviceAccounts/{_EMAIL}"),
        "service_config.direct_vpc_egress": one_of("VPC_EGRESS_ALL_TRAFFIC", "VPC_EGRESS_PRIVATE_RANGES_ONLY"),
        "service_config.direct_vpc_network_interface.network": NETWORK,
        "service_config.direct_vpc_network_interface.subnetwork": SUBNETWORK,
        "service_config.ingress_settings": one_of("ALLOW_ALL", "ALLOW_INTERNAL_ONLY", "ALLOW_INTERNAL_AND_GCLB"),
        "service_config.service_account_email": EMAIL,
    },
    "google_compute_global_address": {"address_type": one_of("EXTERNAL", "INTERNAL"), "network": NETWORK},
    "google_compute_network": {"name": form(_NAME)},
    "google_compute_subnetwork": {
        "ip_cidr_range": CIDR,
        "log_config.aggregation_interval": form("INTERVAL_(5_SEC|30_SEC|1_MIN|5_MIN|10_MIN|15_MIN)"),
        "log_config.metadata": one_of("EXCLUDE_ALL_METADATA", "INCLUDE_ALL_METADATA", "CUSTOM_METADATA"),
        "name": form(_NAME),
        "network": NETWORK,
    },
    "google_logging_metric": {
        "metric_descriptor.labels.value_type": one_of("BOOL", "INT64", "STRING"),
        "metric_descriptor.metric_kind": one_of("DELTA", "GAUGE", "CUMULATIVE"),
        "metric_descriptor.value_type": one_of("BOOL", "INT64", "DOUBLE", "STRING", "DISTRIBUTION", "MONEY"),
    },
    "google_monitoring_alert_policy": {
        "combiner": one_of("AND", "OR", "AND_WITH_MATCHING_RESOURCE"),
        "notification_channels": form(rf"projects/{_PROJECT}/notificationChannels/[0-9]+"),
        "severity": one_of("CRITICAL", "ERROR", "WARNING"),
    },
    "google_monitoring_dashboard": {"dashboard_json": JSON},
    "google_monitoring_notification_channel": {},
    "google_project_iam_member": MEMBER,
    "google_project_service": {"service": form(r"(?!bigquery-json\.)[a-z-]+(\.[a-z]+)+")},
    "google_secret_manager_secret": {},
    "google_secret_manager_secret_iam_member": {**MEMBER, "secret_id": SECRET},
    "google_secret_manager_secret_version": {"secret": SECRET},
    "google_service_account": {"account_id": form(r"[a-z][-a-z0-9]{4,28}[a-z0-9]")},
    "google_service_networking_connection": {"network": NETWORK, "reserved_peering_ranges": form(_NAME)},
    "google_sql_database": {"instance": form(r"[a-z][-a-z0-9]*")},
    "google_sql_database_instance": {
        "settings.availability_type": one_of("REGIONAL", "ZONAL"),
        "settings.connector_enforcement": one_of("NOT_REQUIRED", "REQUIRED"),
        "settings.edition": one_of("ENTERPRISE", "ENTERPRISE_PLUS"),
        "settings.ip_configuration.private_network": NETWORK,
        "settings.ip_configuration.ssl_mode": one_of(
            "ALLOW_UNENCRYPTED_AND_ENCRYPTED", "ENCRYPTED_ONLY", "TRUSTED_CLIENT_CERTIFICATE_REQUIRED"
        ),
        "settings.maintenance_window.day": within(1, 7),
        "settings.maintenance_window.hour": within(0, 23),
    },
    "google_sql_user": {
        "instance": form(r"[a-z][-a-z0-9]*"),
        "name": form(_EMAIL.removesuffix(r"\.gserviceaccount\.com")),
    },
    "google_storage_bucket": {"lifecycle_rule.condition.with_state": one_of("LIVE", "ARCHIVED", "ANY")},
    "google_storage_bucket_iam_member": MEMBER,
    "google_storage_bucket_object": {"bucket": form(r"[a-z0-9][-a-z0-9._]{1,61}[a-z0-9]")},
}
"""Type of resource -> argument, through its blocks -> rule. A type without any has an empty entry: it was looked up."""


def refusals(kind: str, values: dict[str, Any]) -> Iterator[str]:
    """What the provider would say against a resource of this kind; a value that isn't known yet passes."""
    for path, rule in RULES[kind].items():
        for value in _at(values, path.split(".")):
            if not rule.holds(value):
                yield f"{path} is {value!r}: it must {rule.must}"


def _at(values: Any, path: list[str]) -> Iterator[Any]:
    """The values at a path through objects and through lists of blocks; unset ones are left out."""
    if isinstance(values, list):
        for value in values:
            yield from _at(value, path)
    elif not path:
        if values is not None and values != "":
            yield values
    elif isinstance(values, dict):
        yield from _at(values.get(path[0]), path[1:])
