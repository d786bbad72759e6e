package text4seg_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"

	"github.com/text4seg/text4seg-serving/clients/go/text4seg"
)

// authority issues certificates and writes them to files.
type authority struct {
	folder string
	own    *x509.Certificate
	key    *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) authority {
	t.Helper()
	made := authority{folder: t.TempDir()}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "tests"}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	made.own, made.key = template, nil
	made.own, made.key = made.issue(t, "ca", template)
	return made
}

func (a authority) issue(t *testing.T, name string, template *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer := a.key
	if signer == nil {
		signer = key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.own, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for suffix, block := range map[string]*pem.Block{
		".pem": {Type: "CERTIFICATE", Bytes: der}, ".key": {Type: "PRIVATE KEY", Bytes: secret},
	} {
		if err := os.WriteFile(a.file(name+suffix), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return certificate, key
}

func (a authority) file(name string) string { return filepath.Join(a.folder, name) }

func (a authority) leaf(t *testing.T, name string) {
	t.Helper()
	a.issue(t, name, &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	})
}

func TestMutualTLS(t *testing.T) {
	issuer := newAuthority(t)
	issuer.leaf(t, "server.test")
	issuer.leaf(t, "client.test")
	pair, err := tls.LoadX509KeyPair(issuer.file("server.test.pem"), issuer.file("server.test.key"))
	if err != nil {
		t.Fatal(err)
	}
	callers := x509.NewCertPool()
	callers.AddCert(issuer.own)
	secure := grpc.Creds(credentials.NewTLS(&tls.Config{
		Certificates: []tls.Certificate{pair}, ClientCAs: callers, ClientAuth: tls.RequireAndVerifyClientCert,
	}))
	known := text4seg.TLSFiles{
		CA: issuer.file("ca.pem"), Certificate: issuer.file("client.test.pem"), Key: issuer.file("client.test.key"),
		ServerName: "server.test",
	}
	unknown := known
	unknown.Certificate, unknown.Key = "", ""
	for name, files := range map[string]text4seg.TLSFiles{"with a certificate": known, "without one": unknown} {
		config, err := text4seg.LoadTLS(files)
		if err != nil {
			t.Fatal(err)
		}
		fake := &fakeServer{}
		options := []text4seg.Option{text4seg.WithTLS(config), text4seg.WithAPIKey("secret")}
		_, err = serve(t, fake, options, secure).Segment(t.Context(), picture, cat)
		if files == unknown {
			if !text4seg.IsUnreachable(err) {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if sent := fake.headers[0].Get("authorization"); len(sent) != 1 || sent[0] != "Bearer secret" {
			t.Errorf("the key was sent as %q", sent)
		}
	}
	if _, err := serve(t, &fakeServer{}, nil, secure).Segment(t.Context(), picture, cat); err == nil {
		t.Error("a call without TLS worked")
	}
}

func TestTokensAreAskedForBeforeEveryCall(t *testing.T) {
	fake := &fakeServer{}
	asked := 0
	client := serve(t, fake, []text4seg.Option{text4seg.WithToken(func(context.Context) (string, error) {
		if asked++; asked > 2 {
			return "", errors.New("the token service is gone")
		}
		return strings.Repeat("x", asked), nil
	})})
	for call := range 2 {
		if _, err := client.Segment(t.Context(), picture, cat); err != nil {
			t.Fatal(err)
		}
		if sent := fake.headers[call].Get("authorization")[0]; sent != "Bearer "+strings.Repeat("x", call+1) {
			t.Errorf("call %d sent %q", call, sent)
		}
	}
	if _, err := client.Segment(t.Context(), picture, cat); !errors.Is(err, text4seg.ErrUnauthenticated) {
		t.Errorf("without a token: %v", err)
	}
}

func TestMetadataOfTheContextTravelsBesideTheKey(t *testing.T) {
	fake := &fakeServer{}
	client := serve(t, fake, []text4seg.Option{text4seg.WithAPIKey("secret")})
	ctx := metadata.AppendToOutgoingContext(t.Context(), "x-request-id", "mine-1")
	if _, err := client.Segment(ctx, picture, cat); err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]string{"x-request-id": "mine-1", "authorization": "Bearer secret"} {
		if sent := fake.headers[0].Get(key); len(sent) != 1 || sent[0] != want {
			t.Errorf("%s was sent as %q", key, sent)
		}
	}
}

func TestFilesOfKeysThatCannotBeUsed(t *testing.T) {
	empty := filepath.Join(t.TempDir(), "empty.pem")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, files := range map[string]text4seg.TLSFiles{
		"no authority": {CA: empty}, "no file": {CA: empty + ".not"}, "half a pair": {Certificate: empty},
		"no pair": {Certificate: empty, Key: empty},
	} {
		if _, err := text4seg.LoadTLS(files); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
