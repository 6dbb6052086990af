locals {
  layers = {
    arm64  = { name = "kinesis-telemetry-extension-arm64", zip = var.layer_zips.arm64 }
    x86_64 = { name = "kinesis-telemetry-extension-x86_64", zip = var.layer_zips.x86_64 }
  }

  makes_stream = var.existing_stream == null
  stream_arn   = local.makes_stream ? aws_kinesis_stream.this[0].arn : var.existing_stream.arn
  # The whole ARN of an existing stream, which may be of another account or region.
  stream_name = local.makes_stream ? aws_kinesis_stream.this[0].name : var.existing_stream.arn

  environment = merge({ KINESIS_TELEMETRY_STREAM = local.stream_name }, {
    for name, value in {
      KINESIS_TELEMETRY_ROLE_ARN          = try(var.role.arn, null)
      KINESIS_TELEMETRY_ROLE_EXTERNAL_ID  = try(var.role.external_id, null)
      KINESIS_TELEMETRY_ROLE_SESSION_NAME = try(var.role.session_name, null)
    } : name => value if value != null
  })

  parameters = {
    "extension/arn"        = aws_lambda_layer_version.this["arm64"].arn
    "extension/x86_64/arn" = aws_lambda_layer_version.this["x86_64"].arn
    "runtime/policy/arn"   = aws_iam_policy.runtime.arn
    "stream/name"          = local.stream_name
  }
}

resource "aws_kinesis_stream" "this" {
  count = local.makes_stream ? 1 : 0

  name             = var.stream_name
  retention_period = var.stream_retention_hours
  encryption_type  = "KMS"
  kms_key_id       = var.stream_key_arn == null ? "alias/aws/kinesis" : var.stream_key_arn
  tags             = var.tags

  stream_mode_details {
    stream_mode = "ON_DEMAND"
  }
}

resource "aws_lambda_layer_version" "this" {
  for_each = local.layers

  layer_name               = each.value.name
  description              = "Ships a function's telemetry to a Kinesis data stream"
  license_info             = "MIT"
  compatible_architectures = [each.key]
  filename                 = each.value.zip
  source_code_hash         = filebase64sha256(each.value.zip)

  # Older versions are kept: a deleted one cannot be added to a function again, so a function's rollback would fail.
  skip_destroy = true
}

resource "aws_iam_policy" "runtime" {
  name_prefix = "kinesis-telemetry-extension-"
  description = "What kinesis-telemetry-extension needs in a function's role"
  tags        = var.tags

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = concat(
      # With a role to assume, the function's own role may only assume it: the other permissions belong to the assumed role.
      var.role == null ? [] : [{ Effect = "Allow", Action = "sts:AssumeRole", Resource = var.role.arn }],
      var.role != null ? [] : [{ Effect = "Allow", Action = "kinesis:PutRecords", Resource = local.stream_arn }],
      var.role != null || var.stream_key_arn == null ? [] : [{ Effect = "Allow", Action = "kms:GenerateDataKey", Resource = var.stream_key_arn }],
      # A function's log group may have any name.
      var.deny_cloudwatch_logs ? [{ Effect = "Deny", Action = ["logs:CreateLogGroup", "logs:CreateLogStream", "logs:PutLogEvents"], Resource = "*" }] : [],
    )
  })
}

resource "aws_ssm_parameter" "this" {
  for_each = local.parameters

  name           = "${var.parameter_prefix}/${each.key}"
  description    = "kinesis-telemetry-extension: ${each.key}"
  type           = "String"
  insecure_value = each.value # not a secret: a plan may show it
  tags           = var.tags
}
