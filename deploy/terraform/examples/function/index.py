def handler(event, context):
    print("hello from", context.function_name)
    return {"requestId": context.aws_request_id}
