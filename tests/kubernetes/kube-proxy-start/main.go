// Starts kube-proxy on machines where the size of the connection table belongs to the host: it is
// writable only in the first network namespace, and kube-proxy exits if it cannot write it. There it
// gets its own file instead.
package main

import (
	"log"
	"os"
	"syscall"
)

const (
	setting = "/proc/sys/net/netfilter/nf_conntrack_max"
	own     = "/run/nf_conntrack_max"
	program = "/usr/local/lib/kube-proxy"
)

func main() {
	file, err := os.OpenFile(setting, os.O_WRONLY, 0)
	if err == nil {
		file.Close()
	} else if err := cover(); err != nil {
		log.Fatalf("cannot give kube-proxy a %s of its own: %v", setting, err)
	}
	log.Fatal(syscall.Exec(program, os.Args, os.Environ()))
}

func cover() error {
	value, err := os.ReadFile(setting)
	if err != nil {
		return err
	}
	if err := os.MkdirAll("/run", 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(own, value, 0o644); err != nil {
		return err
	}
	return syscall.Mount(own, setting, "", syscall.MS_BIND, "")
}
