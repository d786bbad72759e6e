package main

import (
	"flag"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/text4seg/text4seg-serving/clients/go/text4seg"
)

// flags are the options of a command. They may stand between its arguments.
type flags struct {
	set         *flag.FlagSet
	description string
	usage       string
	lines       []string
}

func newFlags(name, description, usage string) *flags {
	set := flag.NewFlagSet(name, flag.ContinueOnError)
	set.SetOutput(io.Discard)
	set.Usage = func() {}
	return &flags{set: set, description: description, usage: usage}
}

// explain adds a line to the help.
func (f *flags) explain(option, meaning string) {
	f.lines = append(f.lines, fmt.Sprintf("  %-24s %s", option, meaning))
}

func (f *flags) text(into *string, name, value, metavar, meaning string) {
	f.set.StringVar(into, name, value, "")
	f.explain("--"+name+" "+metavar, meaning)
}

func (f *flags) toggle(into *bool, name, meaning string) {
	f.set.BoolVar(into, name, false, "")
	f.explain("--"+name, meaning)
}

func (f *flags) checked(name, metavar, meaning string, read func(text string) error) {
	f.set.Func(name, "", read)
	f.explain("--"+name+" "+metavar, meaning)
}

// output adds -o and --output.
func (f *flags) output(into *string, meaning string) {
	f.set.StringVar(into, "o", "", "")
	f.set.StringVar(into, "output", "", "")
	f.explain("-o, --output PATH", meaning)
}

// parse returns what is no option: at least so many arguments, and at most (-1: any number). What follows "--" is none.
func (f *flags) parse(out io.Writer, arguments []string, least, most int) ([]string, error) {
	var rest, literal []string
	if at := slices.Index(arguments, "--"); at >= 0 {
		arguments, literal = arguments[:at], arguments[at+1:]
	}
	for {
		err := f.set.Parse(arguments)
		if err == flag.ErrHelp {
			fmt.Fprintf(out, "usage: %s\n\n%s\n\noptions:\n%s\n", f.usage, f.description, strings.Join(f.lines, "\n"))
			return nil, err
		}
		if err != nil {
			return nil, usageError(err.Error())
		}
		if f.set.NArg() == 0 {
			break
		}
		rest = append(rest, f.set.Arg(0))
		arguments = f.set.Args()[1:]
	}
	rest = append(rest, literal...)
	if len(rest) < least || (most >= 0 && len(rest) > most) {
		return nil, usageError("usage: " + f.usage)
	}
	return rest, nil
}

// connection is how to reach the server.
type connection struct {
	address    string
	timeout    time.Duration
	tls        bool
	files      text4seg.TLSFiles
	apiKeyFile string
}

func (f *flags) connection(address string) *connection {
	reach := &connection{address: address, timeout: text4seg.DefaultTimeout}
	f.text(&reach.address, "address", address, "HOST:PORT", "the server (default "+text4seg.DefaultAddress+")")
	f.checked("timeout", "S", "seconds for the call (default 60)", func(text string) error {
		seconds, err := strconv.ParseFloat(text, 64)
		if err != nil || !(seconds > 0) || seconds > math.MaxInt64/1e9 {
			return fmt.Errorf("must be more than 0 seconds")
		}
		reach.timeout = time.Duration(seconds * float64(time.Second))
		return nil
	})
	f.toggle(&reach.tls, "tls", "connect with TLS; implied by the options below")
	f.text(&reach.files.CA, "tls-ca", "", "FILE", "authorities that the server is checked against (PEM)")
	f.text(&reach.files.Certificate, "tls-cert", "", "FILE", "this client's certificate, for mTLS (PEM)")
	f.text(&reach.files.Key, "tls-key", "", "FILE", "the certificate's private key (PEM)")
	f.text(&reach.files.ServerName, "tls-server-name", "", "NAME", "name expected in the server's certificate")
	f.text(&reach.apiKeyFile, "api-key-file", "", "FILE", "file that holds the API key")
	return reach
}

func (c *connection) open() (*text4seg.Client, error) {
	options := []text4seg.Option{text4seg.WithTimeout(c.timeout)}
	if c.tls || c.files != (text4seg.TLSFiles{}) {
		if (c.files.Certificate == "") != (c.files.Key == "") {
			return nil, usageError("--tls-cert and --tls-key belong together")
		}
		config, err := text4seg.LoadTLS(c.files)
		if err != nil {
			return nil, err
		}
		options = append(options, text4seg.WithTLS(config))
	}
	if c.apiKeyFile != "" {
		key, err := os.ReadFile(c.apiKeyFile)
		if err != nil {
			return nil, err
		}
		options = append(options, text4seg.WithAPIKey(strings.TrimSpace(string(key))))
	}
	return text4seg.NewClient(c.address, options...)
}
