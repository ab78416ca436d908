"""The Terraform is formatted, valid, tested against the providers' schemas, and agrees with the program.

With the provider registry in reach the real providers are used, else their recorded schemas (`../shared/terraform`),
else the tests that need one are skipped. In CI nothing is skipped: what is missing there is a failure.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, NoReturn

import pytest
from hcl2.api import loads

from etl.run.ledger import LEASE_SECONDS
from etl.settings import ENVIRONMENT, Settings
from tests import ROOT
from tests.doubles.processes import Process
from tests.project.google_provider import RULES, refusals
from tests.support.markdown import code, commands, options, table

TERRAFORM = ROOT / "terraform"
DEPLOYED = ("main.py", "requirements.txt", "etl", "terraform")
TOKEN = "a-token-for-tests"
HANDSHAKE = re.compile(r"^1\|(\d+)\|(\w+)\|([^|\s]+)\|(\w+)\n", re.MULTILINE)
"""Where a plugin is to be found, as it says in its first line. Source: go-plugin, "Internals"."""

NOT_DEPLOYED = {
    "NEST_API_TOKEN",  # secrets, which no environment variable of the function holds
    "DATABASE_URL",
    "DB_PASS",
    "BIGQUERY_EMULATOR_HOST",  # stand-ins for tests
    "SECRET_MANAGER_ENDPOINT",
    "CLOUD_SQL_ADMIN_ENDPOINT",
}
ROLES = [
    (code(account)[0], code(role)[0], on) for account, role, on in table(ROOT / "SECURITY.md", "account", "role", "on")
]


def missing(what: str) -> NoReturn:
    if os.environ.get("CI") == "true":
        pytest.fail(f"{what} (in CI that is a failure)")
    pytest.skip(what)


@dataclass(frozen=True)
class Terraform:
    """Terraform in a copy of what is deployed, so that nothing is written into the checkout."""

    root: Path
    environment: dict[str, str]
    real_providers: bool

    def run(self, *arguments: str, root: Path | None = None) -> "subprocess.CompletedProcess[str]":
        folder = (root or self.root) / "terraform"
        command = ["terraform", f"-chdir={folder}", *arguments]
        return subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=600, check=False)


@dataclass(frozen=True)
class RunResults:
    """What `terraform test` said: its verdict, and each run's planned or applied resources by file and run name."""

    passed: bool
    told: str
    output: str
    resources: dict[str, list[dict[str, Any]]]


def copy_of_checkout(to: Path) -> Path:
    for name in DEPLOYED:
        if (ROOT / name).is_dir():
            shutil.copytree(
                ROOT / name, to / name, ignore=shutil.ignore_patterns(".terraform*", "build", "__pycache__")
            )
        else:
            to.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, to / name)
    return to


@pytest.fixture(scope="session")
def terraform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Terraform]:
    if shutil.which("terraform") is None:
        missing("terraform is not installed: install 1.11 or later")
    root = copy_of_checkout(tmp_path_factory.mktemp("checkout"))
    # GOGC: as much memory again, a third less processor time.
    environment = os.environ | {"TF_IN_AUTOMATION": "1", "CHECKPOINT_DISABLE": "1", "GOGC": "400"}
    real = Terraform(root, environment, real_providers=True)
    initialised = real.run("init", "-backend=false", "-input=false", "-no-color")
    if initialised.returncode == 0:
        yield real
        return
    offline = ROOT.parent / "shared" / "terraform" / "offline"
    if not offline.exists():
        missing(f"no providers: terraform init failed and {offline} does not exist\n{initialised.stderr[-500:]}")
    printed = subprocess.run([offline, sys.executable], capture_output=True, text=True, timeout=60, check=True).stdout
    exports = dict(word.split("=", 1) for word in shlex.split(printed) if "=" in word)
    offline_environment = real.environment | exports
    logs = tmp_path_factory.mktemp("providers")
    with running_providers(offline.parent / "bin", offline_environment, logs) as running:
        yield Terraform(root, offline_environment | {"TF_REATTACH_PROVIDERS": running}, real_providers=False)
    Path(exports["TF_CLI_CONFIG_FILE"]).unlink()


@contextmanager
def running_providers(programs: Path, environment: dict[str, str], logs: Path) -> Iterator[str]:
    """The providers' stand-ins, as TF_REATTACH_PROVIDERS names them.

    Terraform would start each of them some seven times for one run of a test, which was half of its time. Source:
    Terraform documentation, "Debugging Providers".
    """

    def start(name: str) -> dict[str, Any]:
        log = logs / f"{name}.log"
        cookie = {"TF_PLUGIN_MAGIC_COOKIE": "started by its user"}
        command = [programs / f"terraform-provider-{name}"]
        provider = Process(f"The provider {name}", command, log=log, env=environment | cookie)
        stack.callback(provider.stop)
        provider.wait_until(lambda: HANDSHAKE.search(log.read_text()) is not None)
        [(protocol, network, address, kind)] = HANDSHAKE.findall(log.read_text())
        return {
            "Protocol": kind,
            "ProtocolVersion": int(protocol),
            "Pid": provider.pid,
            "Test": True,  # Terraform doesn't end it
            "Addr": {"Network": network, "String": address},
        }

    [block] = loads((TERRAFORM / "versions.tf").read_text())["terraform"]
    with ExitStack() as stack:
        yield json.dumps(
            {f"registry.terraform.io/hashicorp/{name}": start(name) for name in block["required_providers"][0]}
        )


def run_tests(terraform: Terraform, *arguments: str, root: Path | None = None) -> RunResults:
    done = terraform.run("test", "-json", "-verbose", *arguments, root=root)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    resources: dict[str, list[dict[str, Any]]] = {}
    for line in lines:
        run = f"{Path(line.get('@testfile', '')).name}:{line.get('@testrun', '')}"
        if line["type"] == "test_plan":
            changes = line["test_plan"].get("resource_changes", [])  # a plan that was refused has none
            resources[run] = [{**change, "values": change["change"]["after"]} for change in changes]
        elif line["type"] == "test_state":
            resources[run] = line["test_state"]["root_module"]["resources"]
    told = "\n".join(f"{line['@message']}: {line['diagnostic']['detail']}" for line in lines if "diagnostic" in line)
    return RunResults(done.returncode == 0, told, done.stdout, {run: made for run, made in resources.items() if made})


@pytest.fixture(scope="session")
def results(terraform: Terraform) -> RunResults:
    return run_tests(terraform)


def blocks(path: Path, kind: str) -> dict[str, dict[str, Any]]:
    parsed = loads(path.read_text())
    return {name: body for block in parsed.get(kind, []) for name, body in block.items()}


VARIABLES = blocks(TERRAFORM / "variables.tf", "variable")
OUTPUTS = blocks(TERRAFORM / "outputs.tf", "output")


def test_configuration_is_formatted(terraform: Terraform) -> None:
    """`terraform fmt` would change nothing."""
    done = terraform.run("fmt", "-check", "-diff", "-recursive", "-no-color")
    assert done.returncode == 0, done.stdout


def test_configuration_is_valid(terraform: Terraform) -> None:
    """`terraform validate` finds no error against the providers' schemas."""
    done = terraform.run("validate", "-json")
    assert json.loads(done.stdout)["error_count"] == 0, done.stdout


def test_terraform_tests_pass(results: RunResults) -> None:
    """Every run of terraform/tests passes."""
    assert results.passed, results.told
    assert len(results.resources) >= 15


def google_resources(results: RunResults) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """(where, type, values) of everything in Google Cloud that any run plans or applies."""
    for run, resources in results.resources.items():
        for resource in resources:
            if resource["type"].startswith("google_"):
                yield f"{run}: {resource['address']}", resource["type"], resource["values"]


def test_provider_would_take_every_value(results: RunResults) -> None:
    """No planned or applied value, mocked ids included, breaks a rule that the real provider holds in its code."""
    found = list(google_resources(results))
    assert {kind for _, kind, _ in found} == set(RULES)
    assert "source.tftest.hcl:archive: google_sql_database_instance.etl[0]" in {where for where, _, _ in found}
    assert [f"{where}: {refusal}" for where, kind, values in found for refusal in refusals(kind, values)] == []


MOCKED_AT_RANDOM = "k221iz6k"
REFUSED = [
    pytest.param("google_bigquery_dataset", {"dataset_id": "veritix-dev"}, id="dataset with a hyphen"),
    pytest.param("google_cloud_scheduler_job", {"http_target": [{"uri": MOCKED_AT_RANDOM}]}, id="service's address"),
    pytest.param("google_cloud_scheduler_job", {"http_target": [{"body": "{}"}]}, id="body that isn't encoded"),
    pytest.param(
        "google_cloud_scheduler_job", {"http_target": [{"headers": {"Content-Length": "2"}}]}, id="header of Google's"
    ),
    pytest.param(
        "google_cloudfunctions2_function", {"build_config": [{"service_account": MOCKED_AT_RANDOM}]}, id="build account"
    ),
    pytest.param(
        "google_cloudfunctions2_function",
        {"service_config": [{"direct_vpc_network_interface": [{"subnetwork": MOCKED_AT_RANDOM}]}]},
        id="subnetwork",
    ),
    pytest.param("google_compute_subnetwork", {"ip_cidr_range": "10.8.0.0"}, id="address without a range"),
    pytest.param("google_monitoring_alert_policy", {"notification_channels": [MOCKED_AT_RANDOM]}, id="channel"),
    pytest.param("google_monitoring_dashboard", {"dashboard_json": "{"}, id="half a dashboard"),
    pytest.param("google_project_iam_member", {"member": f"serviceAccount:{MOCKED_AT_RANDOM}"}, id="member"),
    pytest.param("google_secret_manager_secret_version", {"secret": MOCKED_AT_RANDOM}, id="secret"),
    pytest.param("google_service_account", {"account_id": "a-run"}, id="account's short name"),
    pytest.param(
        "google_sql_database_instance",
        {"settings": [{"ip_configuration": [{"private_network": MOCKED_AT_RANDOM}]}]},
        id="private network",
    ),
    pytest.param(
        "google_sql_database_instance", {"settings": [{"maintenance_window": [{"day": 0}]}]}, id="day of no week"
    ),
    pytest.param("google_sql_user", {"name": MOCKED_AT_RANDOM}, id="database user"),
]


@pytest.mark.parametrize(("kind", "values"), REFUSED)
def test_provider_rules_refuse(kind: str, values: dict[str, Any]) -> None:
    """A value in the wrong form is refused by its name, above all the random one that a bare mock gives."""
    [refusal] = refusals(kind, values)
    assert ": it must " in refusal


def leaves(value: Any) -> Iterator[Any]:
    """What holds nothing further: bare values, and empty lists and objects."""
    inner = list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else []
    if not inner:
        yield value
    for each in inner:
        yield from leaves(each)


def test_nothing_is_sent_that_comes_back_otherwise(results: RunResults) -> None:
    """Nothing is sent that Google writes otherwise: zeros and what is empty in a dashboard, blanks around a filter."""
    dashboards, filters = [], []
    for _, kind, values in google_resources(results):
        if kind == "google_monitoring_dashboard":
            dashboards.append(json.loads(values["dashboard_json"]))
        elif kind == "google_logging_metric":
            filters.append(values["filter"])
        elif kind == "google_monitoring_alert_policy":
            filters += [
                log["filter"] for condition in values["conditions"] for log in condition["condition_matched_log"]
            ]
            filters += [documentation["content"] for documentation in values["documentation"]]
    assert len(dashboards) >= 15
    assert len(filters) >= 15 * 10
    assert [leaf for dashboard in dashboards for leaf in leaves(dashboard) if not leaf] == []
    assert [text for text in filters if text != text.strip()] == []


def functions(results: RunResults) -> dict[str, dict[str, Any]]:
    """Each run's function, where the run plans one."""
    return {
        run: resource["values"]
        for run, resources in results.resources.items()
        for resource in resources
        if resource["type"] == "google_cloudfunctions2_function"
    }


def seconds(duration: str) -> int:
    return int(duration.removesuffix("s"))


def test_retries_fit_the_lease_and_the_scheduler(results: RunResults) -> None:
    """Every job's first retry comes after a killed run's lease, and Cloud Scheduler takes all of its times."""
    jobs = [values for _, kind, values in google_resources(results) if kind == "google_cloud_scheduler_job"]
    assert len(jobs) >= 15
    for job in jobs:
        [retry] = job["retry_config"]
        assert LEASE_SECONDS < seconds(retry["min_backoff_duration"]) <= seconds(retry["max_backoff_duration"]) <= 3600
        assert 0 <= retry["retry_count"] <= 5
        assert 15 <= seconds(job["attempt_deadline"]) <= 1800


def test_readme_deploys_with_terraforms_defaults(results: RunResults) -> None:
    """README.md's commands without Terraform give the function and the job what Terraform gives them by default."""
    function = functions(results)["defaults.tftest.hcl:defaults"]
    [job] = [
        values
        for where, kind, values in google_resources(results)
        if kind == "google_cloud_scheduler_job" and where.startswith("defaults.")
    ]
    [build], [service], [retry] = function["build_config"], function["service_config"], job["retry_config"]
    in_terraform = [
        {
            "--base-image": build["runtime"],
            "--concurrency": service["max_instance_request_concurrency"],
            "--cpu": service["available_cpu"],
            "--function": build["entry_point"],
            "--max-instances": service["max_instance_count"],
            "--memory": service["available_memory"],
            "--timeout": service["timeout_seconds"],
        },
        {
            "--attempt-deadline": job["attempt_deadline"],
            "--max-backoff": retry["max_backoff_duration"],
            "--max-doublings": retry["max_doublings"],
            "--max-retry-attempts": retry["retry_count"],
            "--min-backoff": retry["min_backoff_duration"],
            "--schedule": job["schedule"],
        },
    ]
    deploy, _, schedule = (options(command) for command in commands(ROOT / "README.md", "## Deploy"))
    for written, expected in zip((deploy, schedule), in_terraform, strict=True):
        assert {name: written[name] for name in expected} == {name: [str(value)] for name, value in expected.items()}
    deadline = service["environment_variables"]["ETL_DEADLINE_SECONDS"]
    assert f"ETL_DEADLINE_SECONDS={deadline}" in deploy["--set-env-vars"]


def test_function_environment_is_what_settings_know() -> None:
    """The function is given every setting that Settings reads, by its name, but secrets and stand-ins."""
    [environment] = [
        block["function_environment"]
        for block in loads((TERRAFORM / "function.tf").read_text())["locals"]
        if "function_environment" in block
    ]
    assert set(environment) == set(ENVIRONMENT) - NOT_DEPLOYED


def test_settings_accept_every_planned_environment(results: RunResults) -> None:
    """What each plan gives the function is read without a problem, and means what the plan says."""
    planned = functions(results)
    assert len(planned) >= 15
    for run, function in planned.items():
        [service] = function["service_config"]
        environment = service["environment_variables"]
        settings = Settings.from_env(environment)
        assert settings.uses_postgres, run
        assert settings.uses_bigquery == (environment["BQ_ENABLED"] == "true"), run
        assert settings.etl_deadline_seconds < service["timeout_seconds"], run


def test_defaults_are_the_programs(results: RunResults) -> None:
    """A variable that stands for a setting has the setting's default, but where the cloud asks for another."""
    environment = functions(results)["defaults.tftest.hcl:defaults"]["service_config"][0]["environment_variables"]
    deployed = Settings.from_env(environment)
    plain = Settings.from_env(
        {"NEST_API_BASE_URL": environment["NEST_API_BASE_URL"], "DATABASE_URL": "postgresql://etl@localhost/etl"}
    )
    differing = {
        field.name for field in fields(Settings) if getattr(deployed, field.name) != getattr(plain, field.name)
    }
    assert differing == {
        "nest_api_token_secret",
        "database_url",
        "instance_connection_name",
        "db_user",
        "db_name",
        "db_iam_auth",
        "db_ip_type",
        "bq_enabled",
        "bq_project_id",
        "etl_deadline_seconds",
        "google_cloud_project",
    }


def test_each_account_has_its_roles_and_no_other(results: RunResults) -> None:
    """Nobody public has any role in any plan, and the three accounts, and invokers, have those of SECURITY.md."""
    granted: set[tuple[str, str]] = set()
    for where, kind, values in google_resources(results):
        if "_iam_" not in kind:
            continue
        member, role = values["member"], values["role"]
        assert kind.endswith("_iam_member"), where  # a binding or policy would take others' grants away
        assert member not in ("allUsers", "allAuthenticatedUsers"), where
        account = re.search(r"-etl-(build|run|invoke)@", member)
        granted.add((account[1] if account else "invokers", role))
    assert granted == {(account, role) for account, role, _ in ROLES}


def test_function_alone_makes_tables(results: RunResults) -> None:
    """No plan has a BigQuery table: the function knows their columns, and their days must never expire."""
    assert "google_bigquery_table" not in {kind for _, kind, _ in google_resources(results)}
    assert "google_bigquery_dataset" in {kind for _, kind, _ in google_resources(results)}


def test_grants_on_projects_are_narrowed(results: RunResults) -> None:
    """A role is granted on a whole project only where SECURITY.md says so: Google Cloud offers nothing narrower."""
    whole_project = {role for _, role, on in ROLES if on == "the project"}
    on_projects = [
        (where, values) for where, kind, values in google_resources(results) if kind == "google_project_iam_member"
    ]
    assert len(on_projects) >= 15 * 5
    for where, values in on_projects:
        assert values["condition"] or values["role"] in whole_project, where


def test_token_is_in_no_plan_or_state(results: RunResults) -> None:
    """Nothing that Terraform writes down holds the token that it was given."""
    assert TOKEN in (TERRAFORM / "tests" / "defaults.tftest.hcl").read_text()
    assert results.resources
    assert TOKEN not in results.output


@pytest.mark.parametrize(
    ("minutes", "nearest"), [pytest.param(45, "Write 30 or 60", id="45"), pytest.param(90, "Write 60 or 120", id="90")]
)
def test_uneven_interval_is_told_its_neighbours(terraform: Terraform, minutes: int, nearest: str) -> None:
    """An interval that cron can't say is refused with the two nearest that it can."""
    written = (TERRAFORM / "tests" / "source.tftest.hcl").read_text()
    name = f"interval_{minutes}.tftest.hcl"
    (terraform.root / "terraform" / name).write_text(
        written.replace("  variables {", f"  variables {{\n    etl_interval_minutes = {minutes}")
    )
    runs = run_tests(terraform, f"-filter={name}")
    (terraform.root / "terraform" / name).unlink()
    assert not runs.passed
    assert nearest in runs.told


@pytest.mark.parametrize("name", VARIABLES)
def test_variable_is_declared_in_full(name: str) -> None:
    """Every variable has a type and a description, can't be null, and refuses wrong values by name."""
    variable = VARIABLES[name]
    assert variable["type"]
    assert variable["description"].endswith(".")
    assert variable["nullable"] is False
    validations = variable.get("validation", [])
    assert validations or variable["type"] == "bool" or name == "database_roles"
    assert all(name in validation["error_message"] for validation in validations)


def test_every_validation_is_tested() -> None:
    """terraform/tests/validations.tftest.hcl refuses a bad value of every variable that has a validation."""
    runs = blocks(TERRAFORM / "tests" / "validations.tftest.hcl", "run")
    refused = {failure.strip("${}").removeprefix("var.") for run in runs.values() for failure in run["expect_failures"]}
    assert refused == {name for name, variable in VARIABLES.items() if "validation" in variable}


def test_readme_and_example_agree_with_the_variables() -> None:
    """terraform/README.md lists every variable and output as it is declared; the example sets what must be set."""
    rows = [
        f"| `{name}` | {variable['description']} | "
        + (f"`{json.dumps(variable['default'])}` |" if "default" in variable else "required |")
        for name, variable in VARIABLES.items()
    ] + [f"| `{name}` | {output['description']} |" for name, output in OUTPUTS.items()]
    lines = (TERRAFORM / "README.md").read_text().splitlines()
    assert [row for row in rows if row not in lines] == []
    assert [line for line in lines if re.match(r"\| `[a-z_]+` \|", line)] == rows
    example = loads((TERRAFORM / "terraform.tfvars.example").read_text())
    required = {name for name, variable in VARIABLES.items() if "default" not in variable}
    assert required <= set(example) <= set(VARIABLES)


def test_log_events_that_are_watched_are_logged() -> None:
    """Metrics and alerts look for messages and fields that the program logs."""
    hcl = (TERRAFORM / "monitoring.tf").read_text() + (TERRAFORM / "alerts.tf").read_text()
    messages = set(re.findall(r'jsonPayload\.message="([^"]+)"', hcl))
    assert messages == {"ETL job completed", "ETL job failed", "ETL load completed"}
    [metrics] = [block["metrics"] for block in loads((TERRAFORM / "monitoring.tf").read_text())["locals"]]
    watched = {metric["field"] for metric in metrics.values()} | {
        label for each in metrics.values() for label in each["labels"]
    }
    watched |= set(re.findall(r"jsonPayload\.(\w+)", hcl)) - {"message"}
    program = "".join(path.read_text() for path in (ROOT / "etl").rglob("*.py"))
    assert {message for message in messages if f'"{message}"' not in program} == set()
    assert {field for field in watched if not re.search(rf"\b{field}\b", program)} == set()


def files_to_deploy(root: Path) -> dict[str, str]:
    """Name and contents of main.py, requirements.txt, etl/**/*.py and what the report page is made of."""
    page = [*(root / "etl" / "views").glob("*.html"), *(root / "etl" / "views" / "static").iterdir()]
    paths = [root / "main.py", root / "requirements.txt", *(root / "etl").rglob("*.py"), *page]
    return {path.relative_to(root).as_posix(): path.read_text() for path in paths}


def other_clone(root: Path, to: Path) -> Path:
    """The same source as somebody else has it: other times and modes, caches, tests and notes beside it."""
    shutil.copytree(root, to, symlinks=True)
    for path in (to / "main.py", *(to / "etl").rglob("*.py")):
        os.utime(path, (915_148_800, 915_148_800))
        path.chmod(0o755)
    for junk in (
        "etl/__pycache__/api.cpython-313.pyc",
        "etl/notes.txt",
        "tests/integration/test_client.py",
        ".venv/lib/x.py",
        "my.env",
    ):
        (to / junk).parent.mkdir(parents=True, exist_ok=True)
        (to / junk).write_text("junk")
    return to


def test_archive_is_made_of_the_source_alone(terraform: Terraform, results: RunResults, tmp_path: Path) -> None:
    """Two clones with other times, modes and junk give the archive the same names and contents, and no others."""
    clone = run_tests(
        terraform, "-filter=tests/source.tftest.hcl", root=other_clone(terraform.root, tmp_path / "clone")
    )
    for runs in (results, clone):
        assert runs.passed, runs.told
        [archive] = [made for made in runs.resources["source.tftest.hcl:archive"] if made["type"] == "archive_file"]
        assert {file["filename"]: file["content"] for file in archive["values"]["source"]} == files_to_deploy(
            terraform.root
        )
        assert archive["values"]["source_dir"] is archive["values"]["source_file"] is None


def test_archive_is_the_same_bytes_from_two_clones(terraform: Terraform, tmp_path: Path) -> None:
    """The real archive provider makes the same bytes of two clones with other times, modes and junk."""
    if not terraform.real_providers:
        pytest.skip("the archive provider itself can't be had without the registry")
    archives = []
    for root in (terraform.root, other_clone(terraform.root, tmp_path / "clone")):
        variables = {
            "project_id": "veritix-test",
            "region": "europe-west3",
            "nest_api_base_url": "https://a.example.com",
        }
        arguments = [f"-var={name}={value}" for name, value in {**variables, "nest_api_token": TOKEN}.items()]
        done = terraform.run("plan", "-target=data.archive_file.source", "-input=false", *arguments, root=root)
        assert done.returncode == 0, done.stderr
        archives.append(root / "terraform" / "build" / "source.zip")
    assert archives[0].read_bytes() == archives[1].read_bytes()
    assert set(zipfile.ZipFile(archives[0]).namelist()) == set(files_to_deploy(terraform.root))


def test_gcloud_uploads_the_same_files(tmp_path: Path) -> None:
    """.gcloudignore, which has Git's syntax, leaves over what the archive is made of."""
    root = copy_of_checkout(tmp_path / "checkout")
    copy = other_clone(root, tmp_path / "clone")
    shutil.copy(ROOT / ".gcloudignore", copy)
    subprocess.run(["git", "init", "--quiet", copy], check=True)
    command: list[str | Path] = ["git", "-C", copy, "ls-files", "--others", "--exclude-from=.gcloudignore"]
    left = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert set(left) == set(files_to_deploy(root))


def test_checkov_fails_nothing() -> None:
    """checkov has no finding, but those that are skipped beside their resource with a reason."""
    checkov = shutil.which("checkov", path=f"{ROOT / '.venv-terraform' / 'bin'}{os.pathsep}{os.environ['PATH']}")
    if checkov is None:
        missing("checkov is not installed: make .venv-terraform/installed")
    command: list[str | Path] = [
        checkov,
        "-d",
        TERRAFORM,
        "--framework",
        "terraform",
        "--skip-download",
        "--output",
        "json",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    report = json.loads(done.stdout)
    failed = [
        f"{check['check_id']} {check['resource']}: {check['check_name']}"
        for check in report["results"]["failed_checks"]
    ]
    assert (failed, done.returncode) == ([], 0)
    assert report["summary"]["passed"] >= 50
    reasons = {
        check["check_id"]: check["check_result"]["suppress_comment"] for check in report["results"]["skipped_checks"]
    }
    assert all(len(reason) > 30 for reason in reasons.values()), reasons
