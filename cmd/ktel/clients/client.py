"""python client.py MODULE NAME...: serves Lambda's Runtime API with the function of MODULE, the first NAME that it has, as Lambda's own
runtime for Python does. It does not stream responses."""

import http.client
import importlib
import json
import logging
import os
import sys
import threading
import time
import traceback
import types

ENV = os.environ
CONCURRENCY = int(ENV.get("AWS_LAMBDA_MAX_CONCURRENCY", "1"))
JSON = ENV.get("AWS_LAMBDA_LOG_FORMAT") == "JSON"
LEVELS = {"TRACE": logging.DEBUG, "DEBUG": logging.DEBUG, "INFO": logging.INFO, "WARN": logging.WARNING, "ERROR": logging.ERROR,
          "FATAL": logging.CRITICAL}

# current.id is the request id. Without concurrency a line belongs to the last invocation, whichever thread logs it.
current = threading.local() if CONCURRENCY > 1 else types.SimpleNamespace()


def call(connection, method, path, body=None, headers={}):
    connection.request(method, "/2018-06-01/runtime/" + path, body, headers)
    answer = connection.getresponse()
    return answer, answer.read()


def connect():
    return http.client.HTTPConnection(ENV["AWS_LAMBDA_RUNTIME_API"])


# Logs.


def write(line):
    """A message must be one line, because each line becomes an event."""
    sys.stdout.write(line.replace("\n", "\r") + "\n")
    sys.stdout.flush()


def timestamp(at):
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(at)) + ".%03dZ" % (at % 1 * 1000)


class Text(logging.Formatter):
    def format(self, record):
        text = super().format(record)  # with the traceback of an exception
        return "[%s]\t%s\t%s\t%s" % (record.levelname, timestamp(record.created), getattr(current, "id", ""), text)


class Structured(logging.Formatter):
    own = set(logging.makeLogRecord({}).__dict__) | {"message", "asctime"}

    def format(self, record):
        line = {"timestamp": timestamp(record.created), "level": record.levelname, "message": record.getMessage(), "logger": record.name}
        if record.exc_info and record.exc_info[0]:
            kind, error, trace = record.exc_info
            line.update(errorType=kind.__name__, errorMessage=str(error), stackTrace=traceback.format_tb(trace))
        line["requestId"] = getattr(current, "id", None)
        line.update((key, value) for key, value in record.__dict__.items() if key not in self.own and key not in line)
        return json.dumps({key: value for key, value in line.items() if value is not None}, default=str, ensure_ascii=False)


class Handler(logging.Handler):
    def emit(self, record):
        try:
            write(self.format(record))
        except Exception:
            self.handleError(record)


def set_up_logging():
    handler = Handler()
    handler.setFormatter(Structured() if JSON else Text())
    root = logging.getLogger()
    root.addHandler(handler)
    level = LEVELS.get(ENV.get("AWS_LAMBDA_LOG_LEVEL", "INFO" if JSON else "").upper())
    if level is not None:
        root.setLevel(level)


# Errors.


class Failure(Exception):
    """An error with one of Lambda's types."""

    def __init__(self, kind, message, frames=()):
        super().__init__(message)
        self.kind, self.frames = kind, frames


def report(connection, path, error):
    frames = [
        frame for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename not in (__file__, importlib.__file__) and not frame.filename.startswith("<frozen importlib")
    ]
    kind = type(error).__name__
    if isinstance(error, Failure):
        kind, frames = error.kind, error.frames
    request = getattr(current, "id", "")
    failure = {"errorMessage": str(error), "errorType": kind, "requestId": request, "stackTrace": traceback.format_list(frames)}
    if JSON:
        write(json.dumps({"timestamp": timestamp(time.time()), "level": "ERROR", **failure}))
    else:
        text = "[ERROR] %s: %s" % (kind, error)
        if frames:
            text += "\nTraceback (most recent call last):\n" + "".join(failure["stackTrace"]).rstrip()
        write(text)
    headers = {"Content-Type": "application/json", "Lambda-Runtime-Function-Error-Type": kind}
    call(connection, "POST", path, json.dumps(failure), headers)


# The handler.


class Context:
    def __init__(self, headers):
        self.aws_request_id = headers["Lambda-Runtime-Aws-Request-Id"]
        self.invoked_function_arn = headers["Lambda-Runtime-Invoked-Function-Arn"]
        self.function_name = ENV.get("AWS_LAMBDA_FUNCTION_NAME")
        self.function_version = ENV.get("AWS_LAMBDA_FUNCTION_VERSION")
        self.memory_limit_in_mb = ENV.get("AWS_LAMBDA_FUNCTION_MEMORY_SIZE")
        self.log_group_name = ENV.get("AWS_LAMBDA_LOG_GROUP_NAME")
        self.log_stream_name = ENV.get("AWS_LAMBDA_LOG_STREAM_NAME")
        self.client_context = None
        self.identity = types.SimpleNamespace(cognito_identity_id=None, cognito_identity_pool_id=None)
        self._deadline = int(headers["Lambda-Runtime-Deadline-Ms"])

    def get_remaining_time_in_millis(self):
        return max(0, self._deadline - int(time.time() * 1000))

    def log(self, message):
        write(str(message))


def load(name, functions):
    try:
        module = importlib.import_module(name.replace("/", "."))
    except ImportError as error:
        raise Failure("Runtime.ImportModuleError", "Unable to import module '%s': %s" % (name, error)) from error
    except SyntaxError as error:
        frame = (error.filename, error.lineno, "<module>", (error.text or "").strip())
        raise Failure("Runtime.UserCodeSyntaxError", "Syntax error in module '%s': %s" % (name, error), [frame]) from error
    for function in functions:
        if callable(getattr(module, function, None)):
            return getattr(module, function)
    raise Failure("Runtime.HandlerNotFound", "Handler '%s' missing on module '%s'" % ("' or '".join(functions), name))


def encode(result):
    try:
        return json.dumps(result, ensure_ascii=False).encode()
    except (TypeError, ValueError) as error:
        raise Failure("Runtime.MarshalError", "Unable to marshal response: %s" % error) from error


def serve(handler):
    connection = connect()
    while True:
        answer, event = call(connection, "GET", "invocation/next")
        if answer.status != 200:
            sys.exit("the Runtime API answered %d: %s" % (answer.status, event.decode()))
        context = Context(answer.headers)
        current.id = context.aws_request_id
        ENV["_X_AMZN_TRACE_ID"] = answer.headers.get("Lambda-Runtime-Trace-Id", "")
        path = "invocation/%s/" % context.aws_request_id
        try:
            body = encode(handler(json.loads(event), context))
        except Exception as error:
            report(connection, path + "error", error)
        else:
            call(connection, "POST", path + "response", body, {"Content-Type": "application/json"})


def main():
    module, *functions = sys.argv[1:]
    del sys.argv[1:]
    ENV["AWS_EXECUTION_ENV"] = "AWS_Lambda_python%d.%d" % sys.version_info[:2]
    sys.path[0] = ENV["LAMBDA_TASK_ROOT"]  # instead of this file's folder
    set_up_logging()
    try:
        handler = load(module, functions)
    except Exception as error:
        report(connect(), "init/error", error)
        sys.exit(1)
    for _ in range(CONCURRENCY - 1):
        threading.Thread(target=serve, args=(handler,), daemon=True).start()
    serve(handler)


if __name__ == "__main__":
    main()
