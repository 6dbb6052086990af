"""Checks the Dockerfiles without a Docker daemon, and runs the build command of Dockerfile.layer. Called by deploy/check.sh."""

import os
import stat
import subprocess
import sys
from pathlib import Path

CONTAINER = Path(__file__).resolve().parent
ROOT = CONTAINER.parent.parent
BINARY = "/opt/extensions/kinesis-telemetry-extension"
MAKE = 'make "build/${TARGETARCH}/extensions/kinesis-telemetry-extension"'
MACHINES = {"amd64": 62, "arm64": 183}  # ELF's EM_X86_64 and EM_AARCH64


def stages(file):
    """A list of stages, each a list of (instruction, rest); lines before the first FROM are stage 0."""
    found = [[]]
    for line in (CONTAINER / file).read_text().replace("\\\n", " ").splitlines():
        if line.strip() and not line.startswith("#"):
            instruction, _, rest = line.strip().partition(" ")
            if instruction == "FROM":
                found.append([])
            found[-1].append((instruction, rest.strip()))
    return found


def check_layer():
    *_, build, image = stages("Dockerfile.layer")
    assert ("RUN", MAKE) in build, f"the build does not run {MAKE}"
    assert image[0] == ("FROM", "scratch"), "the image is not made from scratch"
    assert [i for i, _ in image] == ["FROM", "ARG", "COPY"], "the image has more than the one file: no ENTRYPOINT, no CMD"
    flags = image[2][1].split()
    assert "--chmod=0755" in flags, "the extension's mode is not set: Lambda would not start it"
    assert flags[-1] == BINARY, f"the extension is not at {BINARY}"


def check_function():
    arguments, *rest = stages("Dockerfile")
    by_name = {stage[0][1].split(" AS ")[-1]: stage for stage in rest}
    assert arguments == [("ARG", "EXTENSION=extension-from-source")], arguments
    assert by_name["extension"] == [("FROM", "${EXTENSION} AS extension")], "build-arg EXTENSION has no effect"
    assert any(i == "RUN" and r.startswith(MAKE + " && ") for i, r in by_name["build-extension"]), f"no {MAKE}"
    flags = by_name["extension-from-source"][-1][1].split()
    assert "--chmod=0755" in flags and flags[-1] == BINARY, flags
    assert ("COPY", "--from=extension /opt/extensions /opt/extensions") in rest[-1], "the function's image lacks the extension"


def check_build():
    for architecture, machine in MACHINES.items():
        print(f"+ TARGETARCH={architecture} {MAKE}", flush=True)
        subprocess.run(["sh", "-c", MAKE], cwd=ROOT, env=os.environ | {"TARGETARCH": architecture}, check=True,
                       stdout=subprocess.DEVNULL)
        binary = ROOT / "build" / architecture / "extensions" / "kinesis-telemetry-extension"
        assert stat.S_IMODE(binary.stat().st_mode) & 0o111, f"{binary} is not executable"
        header = binary.read_bytes()[:20]
        assert header[:4] == b"\x7fELF" and int.from_bytes(header[18:20], "little") == machine, f"{binary} is not for {architecture}"


if __name__ == "__main__":
    try:
        check_layer()
        check_function()
        check_build()
    except AssertionError as failure:
        sys.exit(f"check.py: {failure}")
    print("extension image: scratch, one file of mode 0755, no ENTRYPOINT; its build gives both architectures")
