// Package pki makes the certificate authorities, certificates and kubeconfigs of one cluster.
// In: a directory and the host's port. Out: PEM files and kubeconfigs, valid for a day: longer than any
// test cluster's time limit. Private keys are written mode 0600 and go nowhere else.
package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"

	"k8s.io/client-go/tools/clientcmd"
	clientapi "k8s.io/client-go/tools/clientcmd/api"

	"screenshot-operator.io/tests/cluster/internal/layout"
)

const validity = 36 * time.Hour // the longest time limit is a day

type authority struct {
	dir  string
	cert *x509.Certificate
	key  crypto.Signer
	pem  []byte
}

// Write makes everything under dir, and the host's administrator kubeconfig at kubeconfig.
func Write(dir, kubeconfig string, hostPort int) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	ca, err := newAuthority(dir, "ca")
	if err != nil {
		return err
	}
	front, err := newAuthority(dir, "front-proxy-ca")
	if err != nil {
		return err
	}
	if err := servers(ca, front); err != nil {
		return err
	}
	if err := clients(ca, kubeconfig, hostPort); err != nil {
		return err
	}
	return serviceAccountKey(dir)
}

func servers(ca, front authority) error {
	for _, c := range []struct {
		by     authority
		file   string
		name   pkix.Name
		usage  x509.ExtKeyUsage
		altern []string
	}{
		{ca, "apiserver", pkix.Name{CommonName: "kube-apiserver"}, x509.ExtKeyUsageServerAuth, []string{
			"kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local",
			"localhost", "127.0.0.1", layout.NodeIP, layout.ServiceIP}},
		{ca, "kubelet", pkix.Name{CommonName: "system:node:" + layout.NodeName, Organization: []string{"system:nodes"}},
			x509.ExtKeyUsageServerAuth, []string{layout.NodeName, layout.NodeIP, "127.0.0.1"}},
		{ca, "metrics-server", pkix.Name{CommonName: "metrics-server"}, x509.ExtKeyUsageServerAuth,
			[]string{"metrics-server.kube-system.svc"}},
		{ca, "apiserver-kubelet-client", pkix.Name{CommonName: "kube-apiserver-kubelet-client", Organization: []string{"system:masters"}},
			x509.ExtKeyUsageClientAuth, nil},
		{front, "front-proxy-client", pkix.Name{CommonName: "front-proxy-client"}, x509.ExtKeyUsageClientAuth, nil},
	} {
		if _, _, err := c.by.issue(c.file, c.name, c.usage, c.altern); err != nil {
			return fmt.Errorf("certificate %s: %w", c.file, err)
		}
	}
	return nil
}

func clients(ca authority, kubeconfig string, hostPort int) error {
	inside := fmt.Sprintf("https://127.0.0.1:%d", layout.APIPort)
	in := func(n string) string { return filepath.Join(ca.dir, n+".kubeconfig") }
	for _, c := range []struct{ path, server, file, user, group string }{
		{kubeconfig, fmt.Sprintf("https://127.0.0.1:%d", hostPort), "admin", "admin", "system:masters"},
		{in("controller-manager"), inside, "controller-manager", "system:kube-controller-manager", ""},
		{in("scheduler"), inside, "scheduler", "system:kube-scheduler", ""},
		{in("kube-proxy"), inside, "kube-proxy", "system:kube-proxy", ""},
		{in("netpol"), inside, "netpol", "system:netpol", ""},
		{in("metrics-server"), inside, "metrics-server", "system:metrics-server", ""},
		{in("node"), inside, "node", "system:node:" + layout.NodeName, "system:nodes"},
	} {
		name := pkix.Name{CommonName: c.user}
		if c.group != "" {
			name.Organization = []string{c.group}
		}
		cert, key, err := ca.issue("client-"+c.file, name, x509.ExtKeyUsageClientAuth, nil)
		if err != nil {
			return fmt.Errorf("certificate of %s: %w", c.user, err)
		}
		if err := writeKubeconfig(c.path, c.server, c.file, ca.pem, cert, key); err != nil {
			return err
		}
	}
	return nil
}

func writeKubeconfig(path, server, user string, ca, cert, key []byte) error {
	k := clientapi.NewConfig()
	k.Clusters["cluster"] = &clientapi.Cluster{Server: server, CertificateAuthorityData: ca}
	k.AuthInfos[user] = &clientapi.AuthInfo{ClientCertificateData: cert, ClientKeyData: key}
	k.Contexts["cluster"] = &clientapi.Context{Cluster: "cluster", AuthInfo: user}
	k.CurrentContext = "cluster"
	return clientcmd.WriteToFile(*k, path) // mode 0600
}

func newAuthority(dir, name string) (authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return authority{}, err
	}
	t := template(pkix.Name{CommonName: name})
	t.IsCA, t.BasicConstraintsValid = true, true
	t.KeyUsage |= x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	der, err := x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
	if err != nil {
		return authority{}, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return authority{}, err
	}
	p, _, err := store(dir, name, der, key)
	return authority{dir, cert, key, p}, err
}

func (a authority) issue(file string, name pkix.Name, usage x509.ExtKeyUsage, altern []string) (cert, key []byte, err error) {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	t := template(name)
	t.ExtKeyUsage = []x509.ExtKeyUsage{usage}
	for _, s := range altern {
		if ip := net.ParseIP(s); ip != nil {
			t.IPAddresses = append(t.IPAddresses, ip)
		} else {
			t.DNSNames = append(t.DNSNames, s)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, t, a.cert, k.Public(), a.key)
	if err != nil {
		return nil, nil, err
	}
	return store(a.dir, file, der, k)
}

func template(name pkix.Name) *x509.Certificate {
	serial := make([]byte, 16)
	_, _ = rand.Read(serial) // never fails (crypto/rand)
	serial[0] &= 0x7f        // RFC 5280: positive
	now := time.Now()
	return &x509.Certificate{
		SerialNumber: new(big.Int).SetBytes(serial), Subject: name,
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(validity), KeyUsage: x509.KeyUsageDigitalSignature,
	}
}

func store(dir, name string, der []byte, key *ecdsa.PrivateKey) (certPEM, keyPEM []byte, err error) {
	kb, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, nil, err
	}
	certPEM = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	keyPEM = pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: kb})
	if err := os.WriteFile(filepath.Join(dir, name+".crt"), certPEM, 0o644); err != nil {
		return nil, nil, err
	}
	return certPEM, keyPEM, os.WriteFile(filepath.Join(dir, name+".key"), keyPEM, 0o600)
}

func serviceAccountKey(dir string) error {
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return err
	}
	pub, err := x509.MarshalPKIXPublicKey(k.Public())
	if err != nil {
		return err
	}
	priv := pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(k)})
	if err := os.WriteFile(filepath.Join(dir, "sa.key"), priv, 0o600); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "sa.pub"), pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: pub}), 0o644)
}
