output "layer_arns" {
  description = "Layer version by architecture: arm64 and x86_64."
  value       = { for architecture, layer in aws_lambda_layer_version.this : architecture => layer.arn }
}

output "runtime_policy_arn" {
  description = "Policy for the roles of the functions."
  value       = aws_iam_policy.runtime.arn
}

output "stream_name" {
  description = "Value for KINESIS_TELEMETRY_STREAM: the name, or the ARN of an existing stream."
  value       = local.stream_name
}

output "environment" {
  description = "Variables for a function's environment: the stream, and the role to assume if there is one."
  value       = local.environment
}

output "stream_arn" {
  description = "ARN of the stream."
  value       = local.stream_arn
}

output "parameter_names" {
  description = "Names of the SSM parameters."
  value       = sort([for parameter in aws_ssm_parameter.this : parameter.name])
}
