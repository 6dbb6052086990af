# The stream, the layer, the policy, and a function that uses them. Run `make layer` first.
terraform {
  required_version = ">= 1.5"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 6.0"
    }
    archive = {
      source  = "hashicorp/archive"
      version = ">= 2.4"
    }
  }
}

variable "build" {
  description = "Folder of the zips that `make layer` wrote."
  type        = string
  default     = "../../../../build"
}

module "telemetry" {
  source = "../.."

  layer_zips = {
    arm64  = "${var.build}/kinesis-telemetry-extension-arm64.zip"
    x86_64 = "${var.build}/kinesis-telemetry-extension-x86_64.zip"
  }
}

data "archive_file" "function" {
  type        = "zip"
  source_file = "${path.module}/index.py"
  output_path = "${path.module}/.terraform/function.zip"
}

resource "aws_iam_role" "function" {
  name_prefix = "telemetry-example-"
  assume_role_policy = jsonencode({
    Version   = "2012-10-17"
    Statement = [{ Effect = "Allow", Action = "sts:AssumeRole", Principal = { Service = "lambda.amazonaws.com" } }]
  })
}

resource "aws_iam_role_policy_attachment" "telemetry" {
  role       = aws_iam_role.function.name
  policy_arn = module.telemetry.runtime_policy_arn
}

resource "aws_lambda_function" "function" {
  function_name    = "telemetry-example"
  role             = aws_iam_role.function.arn
  runtime          = "python3.13"
  architectures    = ["arm64"]
  handler          = "index.handler"
  filename         = data.archive_file.function.output_path
  source_code_hash = data.archive_file.function.output_base64sha256
  layers           = [module.telemetry.layer_arns["arm64"]]

  environment {
    variables = module.telemetry.environment
  }

  # Without it the first invocations may be denied access to the stream.
  depends_on = [aws_iam_role_policy_attachment.telemetry]
}

output "function_name" {
  description = "Name of the function."
  value       = aws_lambda_function.function.function_name
}
