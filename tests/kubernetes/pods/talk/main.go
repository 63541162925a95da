// talk: answers requests on port 8080 with its host's name. talk URL: requests it there, and prints the
// answer.
package main

import (
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"time"
)

func main() {
	if len(os.Args) > 1 {
		client := http.Client{Timeout: 5 * time.Second}
		response, err := client.Get(os.Args[1])
		if err != nil {
			log.Fatal(err)
		}
		defer response.Body.Close()
		if _, err := io.Copy(os.Stdout, response.Body); err != nil {
			log.Fatal(err)
		}
		return
	}
	name, err := os.Hostname()
	if err != nil {
		log.Fatal(err)
	}
	log.Fatal(http.ListenAndServe(":8080", http.HandlerFunc(func(to http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(to, name)
	})))
}
