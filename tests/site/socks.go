package main

import (
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"io"
	"log"
	"net"
	"strconv"
	"time"
)

var errSocks = errors.New("not what SOCKS5 with a password says")

// serveSocks is the same forward proxy in SOCKS5 (RFC 1928, passwords as in RFC 1929).
func serveSocks(listener net.Listener, sites sites, user, password string) error {
	for {
		client, err := listener.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer client.Close()
			_ = client.SetDeadline(time.Now().Add(time.Minute))
			destination, err := greet(client, user, password)
			if err != nil {
				log.Printf("socks: %v", err)
				return
			}
			to, err := sites.dial(destination)
			if err != nil {
				_, _ = client.Write([]byte{5, 4, 0, 1, 0, 0, 0, 0, 0, 0})
				return
			}
			defer to.Close()
			log.Printf("socks %s", destination)
			if _, err := client.Write([]byte{5, 0, 0, 1, 0, 0, 0, 0, 0, 0}); err == nil {
				join(client, to)
			}
		}()
	}
}

// greet takes the password and gives the destination that is asked for.
func greet(client io.ReadWriter, user, password string) (string, error) {
	if head, err := take(client, 2); err != nil || head[0] != 5 {
		return "", errSocks
	} else if _, err := take(client, int(head[1])); err != nil {
		return "", err
	}
	// Whoever does not offer a password gets it wrong below.
	if _, err := client.Write([]byte{5, 2}); err != nil {
		return "", err
	}
	if _, err := take(client, 1); err != nil {
		return "", err
	}
	name, err := text(client)
	if err != nil {
		return "", err
	}
	word, err := text(client)
	if err != nil {
		return "", err
	}
	if subtle.ConstantTimeCompare([]byte(name+":"+word), []byte(user+":"+password)) != 1 {
		_, _ = client.Write([]byte{1, 1})
		return "", errors.New("refused")
	}
	if _, err := client.Write([]byte{1, 0}); err != nil {
		return "", err
	}
	return destination(client)
}

func destination(client io.Reader) (string, error) {
	head, err := take(client, 4)
	if err != nil || head[0] != 5 || head[1] != 1 {
		return "", errSocks
	}
	var host string
	switch head[3] {
	case 1, 4:
		ip, err := take(client, map[byte]int{1: net.IPv4len, 4: net.IPv6len}[head[3]])
		if err != nil {
			return "", err
		}
		host = net.IP(ip).String()
	case 3:
		if host, err = text(client); err != nil {
			return "", err
		}
	default:
		return "", errSocks
	}
	port, err := take(client, 2)
	if err != nil {
		return "", err
	}
	return net.JoinHostPort(host, strconv.Itoa(int(binary.BigEndian.Uint16(port)))), nil
}

// text is a byte that tells a length, and as many bytes.
func text(from io.Reader) (string, error) {
	length, err := take(from, 1)
	if err != nil {
		return "", err
	}
	bytes, err := take(from, int(length[0]))
	return string(bytes), err
}

func take(from io.Reader, count int) ([]byte, error) {
	bytes := make([]byte, count)
	_, err := io.ReadFull(from, bytes)
	return bytes, err
}
