"""Logs with logging, print and Powertools."""

import logging

from aws_lambda_powertools import Logger

powertools = Logger(service="orders")


@powertools.inject_lambda_context
def lambda_handler(event, context):
    logging.warning("logging: order %d", event["order"])
    print("print: order")
    powertools.info("powertools: order", extra={"order": event["order"]})
    try:
        {}["stock"]
    except KeyError:
        powertools.exception("powertools: failed")
