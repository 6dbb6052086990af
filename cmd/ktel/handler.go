//go:build unix

package main

import (
	"embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"kinesis-telemetry-extension/internal/sandbox"
)

// clients are the runtime clients: each runs a handler with the Runtime API, as Lambda's own runtimes do.
//
//go:embed clients
var clients embed.FS

// language is a language of handlers.
type language struct {
	name     string
	client   string   // file in clients
	programs []string // the first one that is installed runs the client
	options  []string // of the program
	from     string   // where to download it
	files    []string // endings of a module's file
	handlers []string // names of the handler if only a file is given
	packages bool     // a module is loaded by its name with its packages, not by its file
}

var languages = []*language{
	{
		name: "Node.js", client: "client.mjs", programs: []string{"node"}, from: "https://nodejs.org",
		files: []string{".mjs", ".js", ".cjs"}, handlers: []string{"handler"},
	},
	{
		name: "Python", client: "client.py", programs: []string{"python3", "python"}, options: []string{"-u"}, from: "https://www.python.org",
		files: []string{".py", "/__init__.py"}, handlers: []string{"lambda_handler", "handler"}, packages: true,
	},
}

// runtimeClient runs a handler.
type runtimeClient struct {
	*language
	args []string
}

// findFunction finds a handler by its name or its file, or a program. A handler gets its command from
// runtimeClient.install.
func findFunction(handler string, command []string) (sandbox.Function, *runtimeClient, error) {
	if handler != "" {
		dir, err := os.Getwd()
		if err != nil {
			return sandbox.Function{}, nil, cannot(err)
		}
		return findHandler(dir, handler)
	}
	if l := handlerLanguage(command[0]); l != nil {
		return findFile(l, command)
	}
	if _, err := exec.LookPath(command[0]); err != nil {
		hints := []string{}
		if checkProgram(command[0]) == nil {
			hints = append(hints, "to run a program of the current directory, type ./"+command[0])
		}
		if ext := filepath.Ext(command[0]); ext == ".ts" || ext == ".mts" {
			hints = append(hints, "compile TypeScript first, as for Lambda: 'ktel run -- dist/index.mjs'")
		}
		return sandbox.Function{}, nil, usageError(fmt.Sprintf("cannot run the function: %v", err), hints...)
	}
	return sandbox.Function{Command: command, Name: functionName(command[0]), Handler: filepath.Base(command[0])}, nil, nil
}

// handlerLanguage returns the language of a file with a handler. It returns nil for a program: an executable script is one.
func handlerLanguage(path string) *language {
	for _, l := range languages {
		if !slices.Contains(l.files, filepath.Ext(path)) {
			continue
		}
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o111 != 0 && isScript(path) {
			return nil
		}
		return l
	}
	return nil
}

// isScript reports whether a file names its interpreter.
func isScript(path string) bool {
	file, err := os.Open(path)
	if err != nil {
		return false
	}
	defer func() { _ = file.Close() }() // opened for reading only
	head := make([]byte, 2)
	n, _ := file.Read(head)
	return string(head[:n]) == "#!"
}

// findFile returns the function of a file with a handler. The file's folder is the task root, like the root of a Lambda
// archive.
func findFile(l *language, command []string) (sandbox.Function, *runtimeClient, error) {
	if len(command) > 1 {
		return sandbox.Function{}, nil, usageError(
			fmt.Sprintf("%s is run as a handler, which takes no arguments, got %q", command[0], command[1]),
			"'-- "+l.programs[0]+" "+command[0]+" …' runs a program that has a runtime client")
	}
	file, err := filepath.Abs(command[0])
	if err != nil {
		return sandbox.Function{}, nil, cannot(err)
	}
	info, err := os.Stat(file)
	if err != nil || !info.Mode().IsRegular() {
		return sandbox.Function{}, nil, usageError("there is no file " + command[0])
	}
	module := strings.TrimSuffix(filepath.Base(file), filepath.Ext(file))
	return l.function(filepath.Dir(file), file, module, l.handlers)
}

// findHandler returns the function of a handler that is named as in Lambda's configuration.
func findHandler(dir, handler string) (sandbox.Function, *runtimeClient, error) {
	fail := func(message string, hints ...string) (sandbox.Function, *runtimeClient, error) {
		return sandbox.Function{}, nil, usageError(fmt.Sprintf("--handler %q: %s", handler, message), hints...)
	}
	folder, base := filepath.Split(handler)
	if module, name, ok := strings.Cut(base, "."); !ok || module == "" || name == "" {
		return fail("it must be FILE.FUNCTION, without the file's extension",
			"for a file index.mjs that exports handler, type --handler index.handler")
	}
	type candidate struct {
		*language
		file, module, name string
	}
	var found []candidate
	var names, files []string
	for _, l := range languages {
		module, name, _ := strings.Cut(base, ".") // Node.js: the function may be a member of an export
		path := module
		if l.packages {
			at := strings.LastIndex(base, ".")
			module, name = base[:at], base[at+1:]
			path = strings.ReplaceAll(module, ".", "/")
		}
		for _, ending := range l.files {
			file := filepath.Join(dir, folder, path+ending)
			names = append(names, filepath.Join(folder, path+ending))
			if info, err := os.Stat(file); err == nil && info.Mode().IsRegular() {
				found = append(found, candidate{l, file, folder + module, name})
				files = append(files, names[len(names)-1])
			}
		}
	}
	switch len(found) {
	case 0:
		return fail(fmt.Sprintf("there is no %s in %s", list(names), dir),
			"run ktel in the folder of the function, which is /var/task on Lambda")
	case 1:
		c := found[0]
		return c.function(dir, c.file, c.module, []string{c.name})
	default:
		return fail(fmt.Sprintf("there are %s", strings.Join(files, " and ")), "'ktel run -- "+files[0]+"' runs this one")
	}
}

// function returns the function whose handler has one of these names. install returns its command.
func (l *language) function(dir, file, module string, names []string) (sandbox.Function, *runtimeClient, error) {
	client := &runtimeClient{l, []string{file, names[0]}}
	if l.packages {
		client.args = append([]string{module}, names...)
	}
	return sandbox.Function{Dir: dir, Name: functionName(module), Handler: module + "." + names[0]}, client, nil
}

// install writes the client into dir and returns the command that runs the handler.
func (c *runtimeClient) install(dir string) ([]string, error) {
	for _, program := range c.programs {
		path, err := exec.LookPath(program)
		if err != nil {
			continue
		}
		source, err := clients.ReadFile("clients/" + c.client)
		if err != nil {
			return nil, cannot(err)
		}
		client := filepath.Join(dir, c.client)
		if err := os.WriteFile(client, source, 0o600); err != nil {
			return nil, cannot(err)
		}
		return slices.Concat([]string{path}, c.options, []string{client}, c.args), nil
	}
	return nil, usageError(fmt.Sprintf("the handler needs %s: there is no %s in PATH", c.name, list(c.programs)), "install it: "+c.from)
}

// functionName turns the name of a program into a valid name of a function.
func functionName(program string) string {
	name := strings.Map(func(r rune) rune {
		if r == '-' || r == '_' || (r >= '0' && r <= '9') || (r >= 'a' && r <= 'z') || (r >= 'A' && r <= 'Z') {
			return r
		}
		return '-'
	}, filepath.Base(program))
	return name[:min(len(name), 64)]
}
