"""consume.py TEMPLATE: writes the CloudFormation that consume.md has in its blocks as one template, for cfn-lint, and reads the other blocks.

Run by deploy/check.sh, with cfn-lint's Python. The blocks of settings are read by a test of internal/config.
"""

import json
import re
import sys
from pathlib import Path

import yaml


def main(output):
    text = Path(__file__).with_name("consume.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    parameters, resources, pipelines = "", "", 0
    for language, body in blocks:
        if language == "env":
            continue
        assert language == "yaml", f"nothing checks a block of {language!r}"
        if body.startswith("Parameters:\n"):
            parameters += body
        elif body.startswith("Resources:\n"):
            resources += body.removeprefix("Resources:\n")
        else:
            pipeline = yaml.safe_load(body)["telemetry"]
            assert list(pipeline) == ["source", "sink"], "a pipeline of Data Prepper"
            pipelines += 1
    for mapping in re.findall(r"`(\{\".*?\}+)`", text):
        json.loads(mapping)
    assert parameters and resources and pipelines == 1, "the blocks that the recipes need"
    Path(output).write_text(f'AWSTemplateFormatVersion: "2010-09-09"\n{parameters}Resources:\n{resources}', encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
