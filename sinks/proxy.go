package sinks

import (
	"bufio"
	"cmp"
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// errProxy says that the proxy could not be reached, or did not connect.
var errProxy = errors.New("the proxy did not connect")

// A tunnel connects to endpoints through the operator's proxy. It looks their names up here and asks the proxy for an
// address that the guard lets pass. By its name the proxy might find another one: that of its own network's machines.
type tunnel struct {
	proxy    *url.URL
	dialer   *net.Dialer // to the proxy, which may be anywhere: it is the operator's
	secure   *tls.Config // to an https:// one
	guard    *guard
	resolver *net.Resolver
	timeout  time.Duration
}

// through makes h's requests go through a proxy. Where no address is kept out, names are the proxy's to look up.
func (h *HTTP) through(raw string, dialer *net.Dialer, config *tls.Config) error {
	proxy, err := parseProxy(raw)
	if err != nil {
		return err
	}
	h.proxy = proxy
	if h.guard == nil {
		h.transport.Proxy = http.ProxyURL(proxy)
		h.transport.OnProxyConnectResponse = func(_ context.Context, _ *url.URL, _ *http.Request, res *http.Response) error {
			if res.StatusCode != http.StatusOK {
				return errProxy
			}
			return nil
		}
		return nil
	}
	free := *dialer
	free.Control = nil
	t := &tunnel{proxy: proxy, dialer: &free, guard: h.guard, resolver: h.resolver, timeout: h.timeout}
	t.secure = &tls.Config{MinVersion: config.MinVersion, RootCAs: config.RootCAs, ServerName: proxy.Hostname()}
	h.transport.DialContext = dialConn(h.timeout, t.dial)
	h.dnsHint = "The host's name could not be looked up on this machine, which is done behind http.proxy too, to keep private addresses out: " +
		"set http.allow_private where the proxy keeps them out."
	return nil
}

func parseProxy(raw string) (*url.URL, error) {
	u, err := url.Parse(raw) // the error shows the URL, and it may hold a password
	if err != nil || u.Hostname() == "" {
		return nil, errors.New("proxy: write http://host:port")
	}
	switch u.Scheme {
	case "http", "https", "socks5", "socks5h":
		if strings.Trim(u.Path, "/") != "" {
			return nil, errors.New("proxy: write http://host:port, without a path")
		}
		return u, nil
	}
	return nil, errors.New("proxy: must begin with http://, https:// or socks5://")
}

// CheckProxy connects to the proxy, where there is one, and says what keeps it from that. Nothing is sent.
func (h *HTTP) CheckProxy(ctx context.Context) error {
	if h.proxy == nil {
		return nil
	}
	port := cmp.Or(h.proxy.Port(), map[string]string{"http": "80", "https": "443"}[h.proxy.Scheme], "1080")
	c, err := new(net.Dialer).DialContext(ctx, "tcp", net.JoinHostPort(h.proxy.Hostname(), port))
	if err != nil {
		return fmt.Errorf("proxy: %w", err) // which names its host and port
	}
	return c.Close()
}

// dial connects to an endpoint: to the first of its addresses that the proxy reaches.
func (t *tunnel) dial(ctx context.Context, _, address string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, t.timeout)
	defer cancel()
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return nil, err
	}
	addresses, err := t.guard.lookup(ctx, t.resolver, host)
	if err != nil {
		return nil, err
	}
	for _, a := range addresses {
		var c net.Conn
		if c, err = t.connect(ctx, netip.AddrPortFrom(a.Unmap(), uint16(n))); err == nil {
			return c, nil
		}
	}
	return nil, fmt.Errorf("%w: %w", errProxy, err)
}

// connect asks the proxy for a connection.
func (t *tunnel) connect(ctx context.Context, to netip.AddrPort) (made net.Conn, err error) {
	port := t.proxy.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[t.proxy.Scheme]
	}
	if port == "" {
		port = "1080"
	}
	c, err := t.dialer.DialContext(ctx, "tcp", net.JoinHostPort(t.proxy.Hostname(), port))
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = c.Close()
		}
	}()
	deadline, _ := ctx.Deadline()
	if err := c.SetDeadline(deadline); err != nil {
		return nil, err
	}
	switch t.proxy.Scheme {
	case "https":
		c = tls.Client(c, t.secure)
		fallthrough
	case "http":
		err = t.askHTTP(c, to)
	default:
		err = t.askSOCKS(c, to)
	}
	if err != nil {
		return nil, err
	}
	return c, c.SetDeadline(time.Time{})
}

// maxProxyAnswer bounds what a proxy answers before it connects, in bytes.
const maxProxyAnswer = 64 << 10

// askHTTP asks an HTTP proxy for a tunnel (RFC 9110, 9.3.6).
func (t *tunnel) askHTTP(c net.Conn, to netip.AddrPort) error {
	ask := "CONNECT " + to.String() + " HTTP/1.1\r\nHost: " + to.String() + "\r\n"
	if user := t.proxy.User; user != nil {
		password, _ := user.Password()
		ask += "Proxy-Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(user.Username()+":"+password)) + "\r\n"
	}
	if _, err := io.WriteString(c, ask+"\r\n"); err != nil {
		return err
	}
	in := bufio.NewReader(io.LimitReader(c, maxProxyAnswer))
	res, err := http.ReadResponse(in, &http.Request{Method: http.MethodConnect})
	switch {
	case err != nil:
		return err
	case res.StatusCode != http.StatusOK:
		return fmt.Errorf("HTTP %d", res.StatusCode)
	case in.Buffered() > 0:
		return errors.New("something came before it was asked for")
	}
	return nil
}

// askSOCKS asks a SOCKS5 proxy for a connection (RFC 1928; RFC 1929 for user and password).
func (t *tunnel) askSOCKS(c net.Conn, to netip.AddrPort) error {
	const version, none, byPassword = 5, 0, 2
	greeting := []byte{version, 1, none}
	if t.proxy.User != nil {
		greeting = []byte{version, 2, none, byPassword}
	}
	var method [2]byte
	if err := exchange(c, greeting, method[:]); err != nil {
		return err
	}
	if method[0] == version && method[1] == byPassword && t.proxy.User != nil {
		if err := t.logIn(c); err != nil {
			return err
		}
	} else if method != [2]byte{version, none} {
		return errors.New("no way to log in is left")
	}
	ask := []byte{version, 1, 0, 1}
	if to.Addr().Is6() {
		ask[3] = 4
	}
	ask = append(ask, to.Addr().AsSlice()...)
	var reply [4]byte // version, result, 0, kind of the address that follows
	if err := exchange(c, binary.BigEndian.AppendUint16(ask, to.Port()), reply[:]); err != nil {
		return err
	}
	if reply[0] != version || reply[1] != 0 {
		return fmt.Errorf("SOCKS result %d", reply[1])
	}
	var rest int64
	switch reply[3] {
	case 1:
		rest = 4
	case 4:
		rest = 16
	case 3: // a name, after its length
		var length [1]byte
		if _, err := io.ReadFull(c, length[:]); err != nil {
			return err
		}
		rest = int64(length[0])
	default:
		return errors.New("no kind of address")
	}
	_, err := io.CopyN(io.Discard, c, rest+2) // the port
	return err
}

func (t *tunnel) logIn(c net.Conn) error {
	user := t.proxy.User.Username()
	password, _ := t.proxy.User.Password()
	if len(user) > 255 || len(password) > 255 {
		return errors.New("user or password is longer than SOCKS allows")
	}
	ask := append([]byte{1, byte(len(user))}, user...)
	ask = append(append(ask, byte(len(password))), password...)
	var status [2]byte
	if err := exchange(c, ask, status[:]); err != nil {
		return err
	}
	if status[1] != 0 {
		return errors.New("user or password is wrong")
	}
	return nil
}

// exchange says something and reads what comes in return.
func exchange(c net.Conn, say, hear []byte) error {
	if _, err := c.Write(say); err != nil {
		return err
	}
	_, err := io.ReadFull(c, hear)
	return err
}
