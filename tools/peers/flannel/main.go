// The peer of the scale benchmark: a flannel node out of flannel's own packages. Its main package is not to be had as a module (one
// cloud backend needs a module that is not published), so this one takes the same steps in the same order, for the Kubernetes subnet
// manager and the backends that are compared: subnet manager, interface, backend, masquerade and forward rules, subnet.env, leases.
package main

import (
	"context"
	"flag"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"github.com/flannel-io/flannel/pkg/backend"
	_ "github.com/flannel-io/flannel/pkg/backend/hostgw"
	_ "github.com/flannel-io/flannel/pkg/backend/vxlan"
	"github.com/flannel-io/flannel/pkg/ipmatch"
	"github.com/flannel-io/flannel/pkg/subnet/kube"
	"github.com/flannel-io/flannel/pkg/trafficmngr"
	"github.com/flannel-io/flannel/pkg/trafficmngr/iptables"
	"github.com/flannel-io/flannel/pkg/trafficmngr/nftables"
	log "k8s.io/klog/v2"
)

// Flags as flanneld has them; defaults too.
var (
	apiURL      = flag.String("kube-api-url", "", "Kubernetes API server URL")
	kubeconfig  = flag.String("kubeconfig-file", "", "kubeconfig file")
	netConf     = flag.String("net-config-path", "/etc/kube-flannel/net-conf.json", "network configuration")
	iface       = flag.String("iface", "", "interface for inter-host communication")
	subnetFile  = flag.String("subnet-file", "/run/flannel/subnet.env", "where subnet.env goes")
	resyncEvery = flag.Int("iptables-resync", 5, "resync period for rules, in seconds")
)

func must(what string, err error) {
	if err != nil {
		log.Fatalf("%s: %v", what, err)
	}
}

func main() {
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var running sync.WaitGroup

	manager, err := kube.NewSubnetManager(ctx, *apiURL, *kubeconfig, "flannel.alpha.coreos.com", *netConf, true)
	must("subnet manager", err)
	config, err := manager.GetNetworkConfig(ctx)
	must("network config", err)
	stack, err := ipmatch.GetIPFamily(config.EnableIPv4, config.EnableIPv6)
	must("IP family", err)
	external, err := ipmatch.LookupExtIface(*iface, "", "", stack, ipmatch.PublicIPOpts{})
	must("interface", err)

	driver, err := backend.NewManager(ctx, manager, external).GetBackend(config.BackendType)
	must("backend", err)
	network, err := driver.RegisterNetwork(ctx, &running, config)
	must("network", err)

	must("clean-up", traffic(!config.EnableNFTables).CleanUp(ctx))
	rules := traffic(config.EnableNFTables)
	must("rules", rules.Init(ctx))
	own := network.Lease()
	previous := own.Subnet
	previous.IP, previous.PrefixLen = 0, 0 // no subnet.env of an earlier life
	previous6 := own.IPv6Subnet
	must("masquerade", rules.SetupAndEnsureMasqRules(ctx, config.Network, previous, previous, config.IPv6Network, previous6, previous6,
		own, *resyncEvery, false))
	rules.SetupAndEnsureForwardRules(ctx, config.Network, config.IPv6Network, *resyncEvery)
	must("subnet.env", manager.HandleSubnetFile(*subnetFile, config, true, own.Subnet, own.IPv6Subnet, network.MTU()))

	running.Go(func() { network.Run(ctx) })
	must("lease", manager.CompleteLease(ctx, own, &running))
	running.Wait()
}

func traffic(useNftables bool) trafficmngr.TrafficManager {
	if useNftables {
		return &nftables.NFTablesManager{}
	}
	return &iptables.IPTablesManager{}
}
