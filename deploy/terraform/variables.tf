variable "layer_zips" {
  description = "Paths of the layer zips that `make layer` writes."
  type = object({
    arm64  = string
    x86_64 = string
  })

  validation {
    condition     = fileexists(var.layer_zips.arm64) && fileexists(var.layer_zips.x86_64)
    error_message = "A layer zip is missing: run `make layer` first."
  }
}

variable "stream_name" {
  description = "Name of the new stream. The default is also the extension's default. A second deployment in an account and region needs another name."
  type        = string
  default     = "telemetry-kinesis-stream"

  validation {
    condition     = can(regex("^[a-zA-Z0-9_.-]{1,128}$", var.stream_name))
    error_message = "A stream name has 1 to 128 letters, digits, underscores, hyphens and periods."
  }
}

variable "existing_stream" {
  # An object: the plan must know whether to create a stream, and may not know the ARN yet.
  description = "A stream that exists, or that the same configuration creates. Without it the module creates one."
  type = object({
    arn = string
  })
  default = null

  validation {
    condition     = var.existing_stream == null || can(regex("^arn:aws[a-z-]*:kinesis:[a-z0-9-]+:[0-9]{12}:stream/[a-zA-Z0-9_.-]{1,128}$", var.existing_stream.arn))
    error_message = "existing_stream.arn must be the ARN of a Kinesis data stream."
  }
}

variable "stream_retention_hours" {
  description = "How long the new stream keeps its records, in hours."
  type        = number
  default     = 24

  validation {
    condition     = var.stream_retention_hours >= 24 && var.stream_retention_hours <= 8760 && floor(var.stream_retention_hours) == var.stream_retention_hours
    error_message = "A stream keeps its records for 24 to 8760 hours."
  }
}

variable "stream_key_arn" {
  description = "ARN of a customer managed KMS key that encrypts the stream. Without it the stream uses the AWS managed key, which needs no permission."
  type        = string
  default     = null

  validation {
    condition     = var.stream_key_arn == null || can(regex("^arn:aws[a-z-]*:kms:[a-z0-9-]+:[0-9]{12}:key/[a-zA-Z0-9-]+$", var.stream_key_arn))
    error_message = "stream_key_arn must be the ARN of a KMS key. An alias does not work: a policy cannot name a key by it."
  }
}

variable "role" {
  description = "A role that the extension assumes to write to the stream, for example in the stream's account, with the external id and session name that its trust policy requires. Without it the extension writes with the function's own role."
  type = object({
    arn          = string
    external_id  = optional(string)
    session_name = optional(string)
  })
  default = null

  validation {
    condition     = var.role == null || can(regex("^arn:aws[a-z-]*:iam::[0-9]{12}:role/[!-~]+$", var.role.arn))
    error_message = "role.arn must be the ARN of a role."
  }

  validation {
    condition     = try(var.role.external_id, null) == null || can(regex("^[0-9A-Za-z_+=,.@:/-]{2,}$", var.role.external_id)) && try(length(var.role.external_id), 0) <= 1224
    error_message = "role.external_id has 2 to 1224 letters, digits and _+=,.@:/-."
  }

  validation {
    condition     = try(var.role.session_name, null) == null || can(regex("^[0-9A-Za-z_+=,.@-]{2,64}$", var.role.session_name))
    error_message = "role.session_name has 2 to 64 letters, digits and _+=,.@-."
  }
}

variable "deny_cloudwatch_logs" {
  description = "Stop functions with the policy from writing to CloudWatch Logs, which saves its price. deploy/README.md lists the features that stop working."
  type        = bool
  default     = false
}

variable "parameter_prefix" {
  description = "Prefix of the names of the SSM parameters. A second deployment in an account and region needs another."
  type        = string
  default     = "/telemetry/kinesis"

  validation {
    condition     = can(regex("^(/[a-zA-Z0-9_.-]+)+$", var.parameter_prefix))
    error_message = "parameter_prefix must begin with a slash and not end with one."
  }
}

variable "tags" {
  description = "Tags of the stream, the policy and the SSM parameters."
  type        = map(string)
  default     = {}
}
