"""The Dockerfile and the files that may enter the image, checked without an engine."""

import re

from deploy.tests.conftest import DEPLOY, run, tool

ROOT = DEPLOY.parent
Instruction = tuple[str, str]


def instructions() -> list[Instruction]:
    """Return the Dockerfile's instructions as (name, rest), with continued lines joined and without comments."""
    lines = [line for line in (DEPLOY / "Dockerfile").read_text().splitlines() if not line.startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    parts = [line.split(maxsplit=1) for line in joined.splitlines() if line.strip()]
    return [(name, rest) for name, rest in parts]


def stages() -> list[list[Instruction]]:
    """Return the instructions of each stage, starting with FROM."""
    found: list[list[Instruction]] = []
    for instruction in instructions():
        if instruction[0] == "FROM":
            found.append([])
        found[-1].append(instruction)
    return found


def values(stage: list[Instruction], name: str) -> list[str]:
    """Return the arguments of each instruction with that name."""
    return [rest for instruction, rest in stage if instruction == name]


def allowed() -> list[str]:
    """Return the files that the build context may contain: the ignore file excludes all others first."""
    lines = [line for line in (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines() if not line.startswith("#")]
    assert lines[0] == "*"
    return [line[1:] for line in lines if line.startswith("!")]


BUILDER, FINAL = stages()


def test_copied_files_exist_and_are_in_the_build_context() -> None:
    sources = [source for copy in values(BUILDER, "COPY") for source in copy.split()[:-1] if source != "."]
    assert sources
    for source in sources:
        assert source in allowed()
        assert (ROOT / source).exists()


def test_the_image_gets_every_application_of_the_project() -> None:
    applications = {path.parent.name for path in ROOT.glob("*/apps.py")} | {"lucid_gateway", "templates", "manage.py"}
    assert applications <= set(allowed())


def test_the_scripts_that_run_in_containers_enter_the_image() -> None:
    assert {"deploy/health_check.py", "deploy/init_mongodb.py", "deploy/gunicorn.conf.py"} <= set(allowed())


def test_no_test_enters_the_image() -> None:
    assert "**/tests" in (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()


def test_both_stages_are_pinned_to_the_same_python_and_debian() -> None:
    builder, final = (values(stage, "FROM")[0].split()[0] for stage in (BUILDER, FINAL))
    assert builder == "python:3.13-slim-trixie"
    assert final == "gcr.io/distroless/python3-debian13:nonroot"
    assert f'image.base.name="{final}"' in values(FINAL, "LABEL")[0]


def test_requirements_are_checked_against_their_hashes() -> None:
    install = next(command for command in values(BUILDER, "RUN") if "pip install" in command)
    assert "--require-hashes" in install
    assert "--only-binary=:all:" in install
    assert "--hash=sha256:" in (ROOT / "requirements" / "production.txt").read_text()


def test_the_packages_are_on_the_python_path() -> None:
    target = re.search(r"--target (\S+)", values(BUILDER, "RUN")[0])
    python_path = re.search(r"PYTHONPATH=(\S+)", values(FINAL, "ENV")[0])
    assert target
    assert python_path
    assert python_path[1].split(":") == ["/app", target[1]]
    assert f"--from=builder {target[1]} {target[1]}" in values(FINAL, "COPY")


def test_the_container_does_not_run_as_root() -> None:
    assert values(FINAL, "USER") == ["65532:65532"]


def test_the_final_image_needs_no_shell() -> None:
    assert not values(FINAL, "RUN")
    for name in ("ENTRYPOINT", "CMD"):
        assert values(FINAL, name)[0].startswith("[")
    assert "CMD [" in values(FINAL, "HEALTHCHECK")[0]


def test_the_container_starts_gunicorn() -> None:
    assert values(FINAL, "ENTRYPOINT") == ['["/usr/bin/python3"]']
    assert values(FINAL, "CMD") == ['["-m", "gunicorn", "-c", "deploy/gunicorn.conf.py", "lucid_gateway.wsgi"]']


def test_build_arguments_are_declared_and_used_as_labels() -> None:
    passed = set(re.findall(r'--build-arg "(\w+)=', (DEPLOY / "build.sh").read_text()))
    declared = {argument.split("=")[0] for argument in values(FINAL, "ARG")}
    labelled = set(re.findall(r"\$\{(\w+)\}", values(FINAL, "LABEL")[0]))
    assert passed == declared == labelled == {"VERSION", "REVISION", "BUILD_DATE"}


def test_hadolint_finds_no_problem() -> None:
    checked = run(tool("hadolint"), str(DEPLOY / "Dockerfile"))
    assert checked.returncode == 0, checked.stdout
