// Drives `k8sha sim` with luthermonson/go-proxmox, the Proxmox VE client of Cluster API's Proxmox
// provider. It knows nothing of k8sha.
//
//	client ENDPOINTS.json CA.pem
//
// The first file is the output of `k8sha sim`, the second its CA. Each function in `cases` is one case;
// they build on each other, run in order, and the first failure ends the run.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/luthermonson/go-proxmox"
)

const (
	node   = "pve1"
	made   = 900
	system = 901
	linked = 902
	full   = 903
	seeded = 904
)

// A host as `k8sha sim` prints it.
type host struct {
	URL          string `json:"url"`
	Token        string `json:"token"`
	RootPassword string `json:"root_password"`
}

// The endpoint of the simulated host.
type site struct {
	ctx     context.Context
	url, ca string
	host    host
	client  *proxmox.Client
	node    *proxmox.Node
}

// The panic value of a failed check, so that a case reads as a list of expectations.
type failure string

func failed(format string, values ...any) {
	panic(failure(fmt.Sprintf(format, values...)))
}

func check(is bool, format string, values ...any) {
	if !is {
		failed(format, values...)
	}
}

func same[T comparable](is, wanted T, what string) {
	check(is == wanted, "%s is %v, not %v", what, is, wanted)
}

func ok(err error) {
	if err != nil {
		failed("refused: %v", err)
	}
}

// The answer of a call that must succeed.
func got[T any](answer T, err error) T {
	ok(err)
	return answer
}

// Checks that a call was refused, and the error text.
func refused(err error, words ...string) {
	check(err != nil, "this was not refused: %v", words)
	for _, word := range words {
		check(strings.Contains(err.Error(), word), "%q is not in: %v", word, err)
	}
}

func (s *site) byToken(id, secret string, more ...proxmox.Option) *proxmox.Client {
	return proxmox.NewClient(s.url, append(more, proxmox.WithAPIToken(id, secret))...)
}

func (s *site) byPassword(password string) *proxmox.Client {
	return proxmox.NewClient(s.url, s.tls(), proxmox.WithCredentials(
		&proxmox.Credentials{Username: "root@pam", Password: password}))
}

// Everything is verified with the simulator's CA.
func (s *site) tls() proxmox.Option { return proxmox.WithRootCAFile(s.ca) }

func (s *site) token() (id, secret string) {
	id, secret, _ = strings.Cut(s.host.Token, "=")
	return id, secret
}

// Waits until a task ends, and checks its result.
func (s *site) follow(task *proxmox.Task, err error) {
	s.ends(task, err, "OK")
}

func (s *site) ends(task *proxmox.Task, err error, how string) {
	ok(err)
	check(task != nil, "there is no task")
	same(task.Node, node, "the task's node")
	ok(task.Wait(s.ctx, 100*time.Millisecond, time.Minute))
	check(strings.Contains(task.ExitStatus, how), "%s ended with %q", task.UPID, task.ExitStatus)
	same(task.IsSuccessful, how == "OK", "whether it was successful")
}

func (s *site) vm(vmid int) *proxmox.VirtualMachine {
	return got(s.node.VirtualMachine(s.ctx, vmid))
}

func (s *site) make(vmid int, options ...proxmox.VirtualMachineOption) (*proxmox.Task, error) {
	return s.node.NewVirtualMachine(s.ctx, vmid, options...)
}

func with(name string, value any) proxmox.VirtualMachineOption {
	return proxmox.VirtualMachineOption{Name: name, Value: value}
}

// The volumes of `local` with this in their names.
func (s *site) volumes(part string) (found []string) {
	for _, volume := range got(got(s.node.Storage(s.ctx, "local")).GetContent(s.ctx)) {
		if strings.Contains(volume.Volid, part) {
			found = append(found, volume.Volid)
		}
	}
	return found
}

func run(name string, number int, s *site, function func(*site)) {
	defer func() {
		if why := recover(); why != nil {
			fmt.Printf("FAILED  %s\n%d passed, 1 failed\n", name, number)
			if text, is := why.(failure); is {
				fmt.Fprintln(os.Stderr, text)
				os.Exit(1)
			}
			panic(why)
		}
	}()
	function(s)
	fmt.Println("ok ", name)
}

func main() {
	var endpoints struct {
		Hosts map[string]host `json:"hosts"`
	}
	ok(json.Unmarshal(got(os.ReadFile(os.Args[1])), &endpoints))
	host := endpoints.Hosts[node]
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	s := &site{ctx: ctx, url: host.URL + "/api2/json", ca: os.Args[2], host: host}
	id, secret := s.token()
	s.client = s.byToken(id, secret, s.tls())
	proxmox.DefaultWaitInterval = 200 * time.Millisecond
	s.node = got(s.client.Node(ctx, node))
	for number, one := range cases {
		run(one.name, number, s, one.function)
	}
	fmt.Printf("%d passed, 0 failed\n", len(cases))
}
