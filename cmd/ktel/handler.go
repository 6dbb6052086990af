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

// The programs that serve the Runtime API with a handler, as Lambda's own runtimes do.
//
//go:embed clients
var clients embed.FS

// language is one in which handlers are written.
type language struct {
	name     string
	client   string   // in clients
	programs []string // one of which runs the client
	options  []string
	from     string   // where to get it
	files    []string // how the file of a module ends
	handlers []string // what the handler of a file may be called
	packages bool     // a module is loaded by its name, which has the packages that it is in, not by its file
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

// runtimeClient is how a handler is run.
type runtimeClient struct {
	*language
	args []string
}

// findFunction finds what to run: a handler by its name or its file, which gets its command when the client is installed, or a program.
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
			hints = append(hints, "a program of the current directory is named ./"+command[0])
		}
		if ext := filepath.Ext(command[0]); ext == ".ts" || ext == ".mts" {
			hints = append(hints, "TypeScript is compiled first, as for Lambda: 'ktel run -- dist/index.mjs'")
		}
		return sandbox.Function{}, nil, usageError(fmt.Sprintf("cannot run the function: %v", err), hints...)
	}
	return sandbox.Function{Command: command, Name: functionName(command[0]), Handler: filepath.Base(command[0])}, nil, nil
}

// handlerLanguage is the language of a file with a handler, nil for a program: one that is executable runs by itself.
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

// isScript tells whether a file names its interpreter.
func isScript(path string) bool {
	file, err := os.Open(path)
	if err != nil {
		return false
	}
	defer func() { _ = file.Close() }() // it was only read
	head := make([]byte, 2)
	n, _ := file.Read(head)
	return string(head[:n]) == "#!"
}

// findFile makes a function of a file with a handler. Its folder is the task root, as on Lambda, where it would be in the archive's root.
func findFile(l *language, command []string) (sandbox.Function, *runtimeClient, error) {
	if len(command) > 1 {
		return sandbox.Function{}, nil, usageError(
			fmt.Sprintf("%s is run as a handler, which takes no arguments, such as %q", command[0], command[1]),
			"'-- "+l.programs[0]+" "+command[0]+" …' runs a program that brings a runtime client")
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

// findHandler makes a function of a handler that is named as in Lambda's configuration.
func findHandler(dir, handler string) (sandbox.Function, *runtimeClient, error) {
	fail := func(message string, hints ...string) (sandbox.Function, *runtimeClient, error) {
		return sandbox.Function{}, nil, usageError(fmt.Sprintf("--handler %q: %s", handler, message), hints...)
	}
	folder, base := filepath.Split(handler)
	if module, name, ok := strings.Cut(base, "."); !ok || module == "" || name == "" {
		return fail("it is FILE.FUNCTION, without the ending of the file", "a file index.mjs that exports handler is --handler index.handler")
	}
	type candidate struct {
		*language
		file, module, name string
	}
	var found []candidate
	var names, files []string
	for _, l := range languages {
		module, name, _ := strings.Cut(base, ".") // Node.js: the function may be a member of what is exported
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
			"change into the folder of the function, which Lambda has in /var/task")
	case 1:
		c := found[0]
		return c.function(dir, c.file, c.module, []string{c.name})
	default:
		return fail(fmt.Sprintf("there are %s", strings.Join(files, " and ")), "'ktel run -- "+files[0]+"' runs this one")
	}
}

// function is one whose handler has one of these names. Its command follows when the client is installed.
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

// functionName makes a name that Lambda would take of the program's.
func functionName(program string) string {
	name := strings.Map(func(r rune) rune {
		if r == '-' || r == '_' || (r >= '0' && r <= '9') || (r >= 'a' && r <= 'z') || (r >= 'A' && r <= 'Z') {
			return r
		}
		return '-'
	}, filepath.Base(program))
	return name[:min(len(name), 64)]
}
