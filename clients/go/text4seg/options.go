package text4seg

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
)

const (
	// Version is the version of this client.
	Version = "0.1.0"
	// DefaultAddress is where `make serve` listens.
	DefaultAddress = "127.0.0.1:50051"
	// DefaultTimeout bounds calls whose context has no deadline.
	DefaultTimeout = 60 * time.Second

	// Below gRPC's own limit of 4 MiB a message.
	defaultInlineBytes = 3 << 20
	defaultChunkBytes  = 256 << 10
	maxMessageBytes    = 64 << 20
)

// Option sets up a [Client].
type Option func(*settings) error

type settings struct {
	timeout     time.Duration
	retry       RetryPolicy
	inlineBytes int
	chunkBytes  int
	transport   credentials.TransportCredentials
	dial        []grpc.DialOption
}

func readSettings(options []Option) (settings, error) {
	read := settings{
		timeout:     DefaultTimeout,
		retry:       DefaultRetry,
		inlineBytes: defaultInlineBytes,
		chunkBytes:  defaultChunkBytes,
		transport:   insecure.NewCredentials(),
	}
	for _, option := range options {
		if err := option(&read); err != nil {
			return settings{}, err
		}
	}
	return read, nil
}

// WithTimeout bounds every call whose context has no deadline; 0 leaves such calls unbounded.
func WithTimeout(timeout time.Duration) Option {
	return func(s *settings) error {
		if timeout < 0 {
			return fmt.Errorf("text4seg: a timeout of %v", timeout)
		}
		s.timeout = timeout
		return nil
	}
}

// WithRetry sets what is tried again; RetryPolicy{Attempts: 1, Multiplier: 1} turns retries off.
func WithRetry(policy RetryPolicy) Option {
	return func(s *settings) error {
		s.retry = policy
		return policy.check()
	}
}

// WithTLS connects with TLS; without it the connection is plain text. [LoadTLS] makes a configuration from files.
func WithTLS(config *tls.Config) Option {
	return func(s *settings) error {
		s.transport = credentials.NewTLS(config)
		return nil
	}
}

// WithAPIKey sends a key with every call, as `authorization: Bearer KEY`. Use TLS with it: it travels as it is.
func WithAPIKey(key string) Option {
	return WithToken(func(context.Context) (string, error) { return key, nil })
}

// WithToken asks for a bearer token before every call: for tokens that expire. Use TLS with it.
func WithToken(token func(ctx context.Context) (string, error)) Option {
	return func(s *settings) error {
		s.dial = append(s.dial, grpc.WithPerRPCCredentials(bearer(token)))
		return nil
	}
}

// WithInlineBytes sets the size above which image files are uploaded with PutImage first, 3 MiB without it.
func WithInlineBytes(bytes int) Option {
	return func(s *settings) error {
		s.inlineBytes = bytes
		return nil
	}
}

// WithChunkBytes sets the size of the pieces of an upload, 256 KiB without it.
func WithChunkBytes(bytes int) Option {
	return func(s *settings) error {
		if bytes < 1 {
			return fmt.Errorf("text4seg: pieces of %d bytes", bytes)
		}
		s.chunkBytes = bytes
		return nil
	}
}

// WithRoundRobin spreads calls over all servers that the address names: "dns:///text4seg.example:50051".
func WithRoundRobin() Option {
	return WithDialOptions(grpc.WithDefaultServiceConfig(`{"loadBalancingConfig": [{"round_robin": {}}]}`))
}

// WithDialOptions passes further options to gRPC: interceptors, tracing, keep-alive.
func WithDialOptions(options ...grpc.DialOption) Option {
	return func(s *settings) error {
		s.dial = append(s.dial, options...)
		return nil
	}
}

// TLSFiles names PEM files. All are optional; Certificate and Key belong together.
type TLSFiles struct {
	CA          string // authorities that the server's certificate is checked against; else those of this machine
	Certificate string // this client's own certificate, for servers that ask for one (mTLS)
	Key         string // the certificate's private key
	ServerName  string // no file: the name expected in the server's certificate, where it differs from the address
}

// LoadTLS makes the configuration for [WithTLS] from files.
func LoadTLS(files TLSFiles) (*tls.Config, error) {
	config := &tls.Config{ServerName: files.ServerName, MinVersion: tls.VersionTLS12}
	if (files.Certificate == "") != (files.Key == "") {
		return nil, errors.New("text4seg: mTLS needs both the client's certificate and its private key")
	}
	if files.CA != "" {
		pem, err := os.ReadFile(files.CA)
		if err != nil {
			return nil, err
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("text4seg: %s holds no certificate", files.CA)
		}
	}
	if files.Certificate != "" {
		pair, err := tls.LoadX509KeyPair(files.Certificate, files.Key)
		if err != nil {
			return nil, err
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return config, nil
}

// bearer sends a token with every call.
type bearer func(ctx context.Context) (string, error)

// GetRequestMetadata implements credentials.PerRPCCredentials.
func (b bearer) GetRequestMetadata(ctx context.Context, _ ...string) (map[string]string, error) {
	token, err := b(ctx)
	if err != nil {
		return nil, err
	}
	return map[string]string{"authorization": "Bearer " + token}, nil
}

// RequireTransportSecurity implements credentials.PerRPCCredentials. On a machine's own loopback, keys are used without TLS.
func (b bearer) RequireTransportSecurity() bool { return false }
