// The smallest pod network that spans nodes, for a DaemonSet: it writes the configuration of the
// reference CNI plugins for this node's share of the pods' addresses, and a route to every other node's
// share.
package main

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/vishvananda/netlink"
)

const account = "/var/run/secrets/kubernetes.io/serviceaccount/"

// %[1]s is this node's share of the pods' addresses. ptp routes every packet: none crosses a bridge
// past kube-proxy's rules.
const configuration = `{
  "cniVersion": "1.0.0",
  "name": "k8sha-test",
  "plugins": [
    {
      "type": "ptp",
      "ipam": {"type": "host-local", "ranges": [[{"subnet": %[1]q}]], "routes": [{"dst": "0.0.0.0/0"}]}
    },
    {"type": "portmap", "capabilities": {"portMappings": true}}
  ]
}
`

type node struct {
	Metadata struct{ Name string }
	Spec     struct{ PodCIDR string }
	Status   struct {
		Addresses []struct{ Type, Address string }
	}
}

func main() {
	for {
		log.Print(follow())
		time.Sleep(time.Second)
	}
}

// follow calls act for every existing node, and on each change until the API server ends the stream.
func follow() error {
	token, err := os.ReadFile(account + "token")
	if err != nil {
		return err
	}
	authority, err := os.ReadFile(account + "ca.crt")
	if err != nil {
		return err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(authority)
	server := net.JoinHostPort(os.Getenv("KUBERNETES_SERVICE_HOST"), os.Getenv("KUBERNETES_SERVICE_PORT"))
	// Without a start version, the stream starts with all existing objects.
	request, err := http.NewRequest("GET", "https://"+server+"/api/v1/nodes?watch=1", nil)
	if err != nil {
		return err
	}
	request.Header.Set("Authorization", "Bearer "+string(token))
	// Before kube-proxy has its rules, the service's address does not answer.
	dialer := net.Dialer{Timeout: 3 * time.Second}
	client := http.Client{Transport: &http.Transport{
		DialContext:     dialer.DialContext,
		TLSClientConfig: &tls.Config{RootCAs: roots},
	}}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("the API server answered %s", response.Status)
	}
	events := json.NewDecoder(response.Body)
	for {
		var event struct {
			Type   string
			Object node
		}
		if err := events.Decode(&event); err != nil {
			return err
		}
		if event.Object.Spec.PodCIDR == "" {
			continue
		}
		act := route
		if event.Object.Metadata.Name == os.Getenv("NODE_NAME") {
			act = configure
		}
		if err := act(event.Object, event.Type == "DELETED"); err != nil {
			return fmt.Errorf("%s: %w", event.Object.Metadata.Name, err)
		}
	}
}

func configure(self node, gone bool) error {
	if gone {
		return nil
	}
	const path = "/etc/cni/net.d/10-k8sha-test.conflist"
	wanted := fmt.Sprintf(configuration, self.Spec.PodCIDR)
	if there, err := os.ReadFile(path); err == nil && string(there) == wanted {
		return nil
	}
	if err := os.WriteFile(path+".new", []byte(wanted), 0o644); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

func route(other node, gone bool) error {
	_, pods, err := net.ParseCIDR(other.Spec.PodCIDR)
	if err != nil {
		return err
	}
	for _, address := range other.Status.Addresses {
		if address.Type != "InternalIP" {
			continue
		}
		way := &netlink.Route{Dst: pods, Gw: net.ParseIP(address.Address)}
		if gone {
			return netlink.RouteDel(way)
		}
		return netlink.RouteReplace(way)
	}
	return nil
}
