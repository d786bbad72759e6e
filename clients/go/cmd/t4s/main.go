// Command t4s segments images by text, from the shell.
//
//	t4s segment photo.jpg "the cat" -o out.png
//
// `t4s help` lists the commands. Exit codes: 0 found, 3 nothing found, 1 error, 2 wrong usage.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"syscall"

	"github.com/text4seg/text4seg-serving/clients/go/text4seg"
)

const (
	found        = 0
	failure      = 1
	usage        = 2
	nothingFound = 3
	interrupted  = 130
)

const help = `Segment images by text.

usage: t4s COMMAND ...

commands:
  segment IMAGE PHRASE...   masks of what the phrases name
  detect IMAGE PHRASE...    boxes of what the phrases name
  chat IMAGE MESSAGE        ask about an image
  version                   versions of the client and, with --address, of a server

` + "`t4s COMMAND --help` explains a command." + `
exit codes: 0 found, 3 nothing found, 1 error, 2 wrong usage
`

// program is where a run of t4s writes.
type program struct {
	out, errors io.Writer
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := program{os.Stdout, os.Stderr}.run(ctx, os.Args[1:])
	stop()
	os.Exit(code)
}

// usageError is what the caller of t4s has to change.
type usageError string

func (e usageError) Error() string { return string(e) }

func (p program) run(ctx context.Context, arguments []string) int {
	commands := map[string]func(context.Context, []string) (int, error){
		"segment": p.segment,
		"detect":  p.detect,
		"chat":    p.chat,
		"version": p.version,
	}
	if len(arguments) == 0 {
		fmt.Fprint(p.errors, help)
		return usage
	}
	switch arguments[0] {
	case "help", "-h", "-help", "--help":
		fmt.Fprint(p.out, help)
		return found
	case "--version":
		fmt.Fprintln(p.out, "t4s", text4seg.Version)
		return found
	}
	command, known := commands[arguments[0]]
	if !known {
		fmt.Fprintf(p.errors, "t4s: there is no command %q; `t4s help` lists them\n", arguments[0])
		return usage
	}
	code, err := command(ctx, arguments[1:])
	var wrong usageError
	switch {
	case err == nil:
		return code
	case errors.Is(err, flag.ErrHelp):
		return found
	case errors.As(err, &wrong):
		fmt.Fprintf(p.errors, "t4s %s: %v; see `t4s %[1]s --help`\n", arguments[0], err)
		return usage
	case ctx.Err() != nil:
		return interrupted
	}
	fmt.Fprintln(p.errors, "t4s:", explain(err))
	return failure
}

// explain says in one line what went wrong and, where nobody answers, what to do about it.
func explain(err error) string {
	var unreachable *unreachableError
	var failed *text4seg.Error
	var file *fs.PathError
	switch {
	case errors.As(err, &unreachable):
		return unreachable.Error()
	case errors.As(err, &failed):
		return failed.Message
	case errors.As(err, &file):
		return fmt.Sprintf("%s: %v", file.Path, file.Err)
	}
	return err.Error()
}

// unreachableError says that nobody answers at an address.
type unreachableError struct {
	address string
	cause   error
}

func (e *unreachableError) Error() string {
	return fmt.Sprintf("no server answers at %s; start one with `text4seg serve` (%s)", e.address, explain(e.cause))
}

func (e *unreachableError) Unwrap() error { return nil }

// at names the address in an error for which it matters.
func at(address string, err error) error {
	if text4seg.IsUnreachable(err) {
		return &unreachableError{address, err}
	}
	return err
}

func (p program) version(ctx context.Context, arguments []string) (int, error) {
	options := newFlags("version", "Print versions.", "t4s version [--address HOST:PORT]")
	connection := options.connection("")
	if _, err := options.parse(p.out, arguments, 0, 0); err != nil {
		return usage, err
	}
	fmt.Fprintln(p.out, "t4s      ", text4seg.Version)
	if connection.address == "" {
		return found, nil
	}
	client, err := connection.open()
	if err != nil {
		return failure, err
	}
	defer client.Close()
	info, err := client.ModelInfo(ctx)
	if err != nil {
		return failure, at(connection.address, err)
	}
	fmt.Fprint(p.out, infoText(info))
	return found, nil
}
