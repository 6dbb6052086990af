"""python runtime.py FILE: a client of the Runtime API that calls the function `handler` of FILE, as Lambda's own runtime does.

Before Python 3.14 it provides the module compression.zstd by its backport, if that is installed.
"""

import importlib.util
import json
import os
import sys
import types
import urllib.request

API = "http://%s/2018-06-01/runtime/invocation" % os.environ["AWS_LAMBDA_RUNTIME_API"]

if sys.version_info < (3, 14) and importlib.util.find_spec("backports"):
    from backports import zstd

    sys.modules["compression"] = types.ModuleType("compression")
    sys.modules["compression"].zstd = zstd


def load(path):
    spec = importlib.util.spec_from_file_location("function", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main():
    handler = load(sys.argv[1]).handler
    while True:
        with urllib.request.urlopen(API + "/next") as answer:
            number = answer.headers["Lambda-Runtime-Aws-Request-Id"]
            event = json.load(answer)
        kind = "response"
        try:
            body = handler(event, None)
        except Exception as error:
            kind, body = "error", {"errorType": type(error).__name__, "errorMessage": str(error)}
        urllib.request.urlopen("%s/%s/%s" % (API, number, kind), json.dumps(body).encode()).close()


if __name__ == "__main__":
    main()
