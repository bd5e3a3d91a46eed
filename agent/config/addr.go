package config

import (
	"errors"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// DefaultPort is the ring's port where an address names none.
const DefaultPort = 7946

// hostPort splits HOST or HOST:PORT, with IPv6 addresses in brackets once a
// port follows or might. port is 0 when none is named.
func hostPort(addr string) (host string, port int, err error) {
	if addr == "" {
		return "", 0, errors.New("is empty")
	}
	if strings.ContainsAny(addr, " \t/@,") {
		return "", 0, errors.New("is not HOST or HOST:PORT")
	}
	if strings.Count(addr, ":") > 1 && !strings.HasPrefix(addr, "[") {
		if _, err := netip.ParseAddr(addr); err == nil {
			return "", 0, errors.New("needs brackets around the IPv6 address: [" + addr + "]")
		}
		return "", 0, errors.New("is not HOST or HOST:PORT; IPv6 addresses stand in brackets")
	}
	if inner, ok := strings.CutPrefix(addr, "["); ok && strings.HasSuffix(inner, "]") {
		host = strings.TrimSuffix(inner, "]")
	} else if strings.Contains(addr, ":") {
		var text string
		if host, text, err = net.SplitHostPort(addr); err != nil {
			return "", 0, errors.New("is not HOST or HOST:PORT; IPv6 addresses stand in brackets")
		}
		n, err := strconv.ParseUint(text, 10, 16)
		if err != nil || n == 0 {
			return "", 0, errors.New("has no port between 1 and 65535")
		}
		port = int(n)
	} else {
		host = addr
	}
	if strings.HasPrefix(addr, "[") {
		if ip, err := netip.ParseAddr(host); err != nil || !ip.Is6() {
			return "", 0, errors.New("has no IPv6 address in its brackets")
		}
	} else if !hostLike(host) {
		return "", 0, errors.New("is not HOST or HOST:PORT")
	}
	return host, port, nil
}

// hostLike reports whether s can be a DNS name or an IPv4 address.
func hostLike(s string) bool {
	if s == "" || len(s) > 253 {
		return false
	}
	for label := range strings.SplitSeq(strings.TrimSuffix(s, "."), ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		if strings.Trim(label, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_") != "" {
			return false
		}
	}
	return true
}

// withPort returns HOST:PORT, with the given port where addr names none.
func withPort(addr string, port int) (string, error) {
	host, named, err := hostPort(addr)
	if err != nil {
		return "", err
	}
	if named != 0 {
		port = named
	}
	if port > 65535 {
		return "", errors.New("needs a port of its own")
	}
	return net.JoinHostPort(host, strconv.Itoa(port)), nil
}

// bindAddr checks an address to listen on. It must be an IP: what a name
// resolves to may change, and where the ring listens must not.
func bindAddr(addr string, port int) (string, error) {
	full, err := withPort(addr, port)
	if err != nil {
		return "", err
	}
	host, _, err := net.SplitHostPort(full)
	if err != nil {
		return "", err
	}
	if _, err := netip.ParseAddr(host); err != nil {
		return "", errors.New("is not an IP address of this machine, or 0.0.0.0 or [::] for all")
	}
	return full, nil
}

// nextPort returns addr, which is HOST:PORT, with the port after.
func nextPort(addr string) (string, error) {
	host, text, err := net.SplitHostPort(addr)
	if err != nil {
		return "", err
	}
	port, err := strconv.Atoi(text)
	if err != nil || port >= 65535 {
		return "", errors.New("leaves no port after it for [peer]; name one there")
	}
	return net.JoinHostPort(host, strconv.Itoa(port+1)), nil
}
