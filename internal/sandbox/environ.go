//go:build unix

package sandbox

import (
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
)

// hiddenFromExtensions are the variables that extensions do not see,
// https://docs.aws.amazon.com/lambda/latest/dg/runtimes-extensions-api.html. In the emulator they also see no variable
// whose name starts with _.
var hiddenFromExtensions = []string{
	"AWS_EXECUTION_ENV", "AWS_LAMBDA_LOG_GROUP_NAME", "AWS_LAMBDA_LOG_STREAM_NAME", "AWS_XRAY_CONTEXT_MISSING",
	"AWS_XRAY_DAEMON_ADDRESS", "LAMBDA_RUNTIME_DIR", "LAMBDA_TASK_ROOT",
}

// sharedEnv returns the variables that the function and the extensions share: the host's PATH, HOME and TMPDIR, which most
// programs need, Lambda's own, and the function's own. The function's own override the others (Lambda rejects reserved
// names).
func (e *Environment) sharedEnv() map[string]string {
	cfg := &e.cfg
	f := &cfg.Function
	env := map[string]string{
		"AWS_REGION": cfg.Region, "AWS_DEFAULT_REGION": cfg.Region,
		"AWS_LAMBDA_FUNCTION_NAME": f.Name, "AWS_LAMBDA_FUNCTION_VERSION": f.Version,
		"AWS_LAMBDA_FUNCTION_MEMORY_SIZE": strconv.Itoa(f.MemoryMB), "AWS_LAMBDA_INITIALIZATION_TYPE": string(cfg.InitType),
		"TZ": ":UTC",
	}
	for _, name := range []string{"PATH", "HOME", "TMPDIR"} {
		if value, ok := os.LookupEnv(name); ok {
			env[name] = value
		}
	}
	if cfg.TmpDir != "" {
		env["TMPDIR"] = cfg.TmpDir
	}
	if cfg.InitType == SnapStart {
		env["AWS_CONTAINER_CREDENTIALS_FULL_URI"] = "http://" + e.addr + credentialsPath
		env["AWS_CONTAINER_AUTHORIZATION_TOKEN"] = e.token
	} else {
		env["AWS_ACCESS_KEY_ID"] = cfg.Credentials.AccessKeyID
		env["AWS_SECRET_ACCESS_KEY"] = cfg.Credentials.SecretAccessKey
		if cfg.Credentials.SessionToken != "" {
			env["AWS_SESSION_TOKEN"] = cfg.Credentials.SessionToken
		}
	}
	if cfg.InitType == ManagedInstances {
		env["LANG"] = "en_US.UTF-8"
		env["AWS_LAMBDA_LOG_FORMAT"] = string(f.LogFormat)
		if f.LogLevel != "" {
			env["AWS_LAMBDA_LOG_LEVEL"] = f.LogLevel
		}
	}
	maps.Copy(env, f.Env)
	env["AWS_LAMBDA_RUNTIME_API"], env["AWS_LAMBDA_METADATA_API"], env["AWS_LAMBDA_METADATA_TOKEN"] = e.addr, e.addr, e.token
	return env
}

// functionEnv returns the variables of the function's process.
func (e *Environment) functionEnv() []string {
	f := &e.cfg.Function
	env := map[string]string{
		"_HANDLER": f.Handler, "LAMBDA_TASK_ROOT": e.taskRoot, "LAMBDA_RUNTIME_DIR": "/var/runtime",
		"AWS_EXECUTION_ENV": "AWS_Lambda_provided.al2023", "LANG": "en_US.UTF-8",
		"AWS_LAMBDA_LOG_FORMAT": string(f.LogFormat), "AWS_XRAY_CONTEXT_MISSING": "LOG_ERROR",
		"AWS_XRAY_DAEMON_ADDRESS": "127.0.0.1:2000", "_AWS_XRAY_DAEMON_ADDRESS": "127.0.0.1", "_AWS_XRAY_DAEMON_PORT": "2000",
	}
	if f.LogLevel != "" {
		env["AWS_LAMBDA_LOG_LEVEL"] = f.LogLevel
	}
	if e.cfg.InitType != SnapStart { // guide, page snapstart-monitoring: SnapStart functions have no own log stream
		env["AWS_LAMBDA_LOG_GROUP_NAME"] = "/aws/lambda/" + f.Name
		env["AWS_LAMBDA_LOG_STREAM_NAME"] = e.instanceID
	}
	if e.cfg.InitType == ManagedInstances {
		env["AWS_LAMBDA_MAX_CONCURRENCY"] = strconv.Itoa(f.Concurrency)
	}
	maps.Copy(env, e.sharedEnv())
	return flatten(env)
}

// extensionEnv returns the variables of an extension's process.
func (e *Environment) extensionEnv(x *Extension) []string {
	env := e.sharedEnv()
	maps.DeleteFunc(env, func(name, _ string) bool {
		return strings.HasPrefix(name, "_") || slices.Contains(hiddenFromExtensions, name)
	})
	maps.Copy(env, x.Env)
	return flatten(env)
}

func flatten(env map[string]string) []string {
	list := make([]string, 0, len(env))
	for _, name := range slices.Sorted(maps.Keys(env)) {
		list = append(list, name+"="+env[name])
	}
	return list
}
