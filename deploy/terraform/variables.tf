variable "layer_zips" {
  description = "Paths of the layer zips that `make layer` writes."
  type = object({
    arm64  = string
    x86_64 = string
  })

  validation {
    condition     = fileexists(var.layer_zips.arm64) && fileexists(var.layer_zips.x86_64)
    error_message = "A layer zip is not there: run `make layer` first."
  }
}

variable "stream_name" {
  description = "Name of the stream that is made. The default is the one that the extension uses where nothing is set. A second deployment in an account and region needs another."
  type        = string
  default     = "telemetry-kinesis-stream"

  validation {
    condition     = can(regex("^[a-zA-Z0-9_.-]{1,128}$", var.stream_name))
    error_message = "A stream name has 1 to 128 letters, digits, underscores, hyphens and periods."
  }
}

variable "existing_stream" {
  # An object, since whether a stream is made must be known when it is planned, and the ARN need not be.
  description = "A stream that is there already, or that the same configuration makes. Leave it out to have one made."
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
  description = "How long the stream that is made keeps its records."
  type        = number
  default     = 24

  validation {
    condition     = var.stream_retention_hours >= 24 && var.stream_retention_hours <= 8760 && floor(var.stream_retention_hours) == var.stream_retention_hours
    error_message = "A stream keeps its records for 24 to 8760 hours."
  }
}

variable "stream_key_arn" {
  description = "ARN of a customer managed KMS key that encrypts the stream. Leave it out for the AWS managed key, which needs no permission."
  type        = string
  default     = null

  validation {
    condition     = var.stream_key_arn == null || can(regex("^arn:aws[a-z-]*:kms:[a-z0-9-]+:[0-9]{12}:key/[a-zA-Z0-9-]+$", var.stream_key_arn))
    error_message = "stream_key_arn must be the ARN of a KMS key. An alias will not do: a policy cannot name a key by it."
  }
}

variable "parameter_prefix" {
  description = "What the names of the SSM parameters begin with. A second deployment in an account and region needs another."
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
