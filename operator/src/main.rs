//! The binary: command line, logs, ports, signals. Nothing is decided here.

use std::io::Write as _;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use jiff::Timestamp;
use kube::runtime::events::Reporter;
use screenshot_operator::canary::Canary;
use screenshot_operator::cluster::{ClusterSettings, domain_of};
use screenshot_operator::context::{Context, Settings};
use screenshot_operator::leader::{Elector, Times};
use screenshot_operator::metrics::Metrics;
use screenshot_operator::names::CONTROLLER;
use screenshot_operator::run::Ports;
use screenshot_operator::trigger::controller::Scope;
use screenshot_operator::{address_lists, client, clock, logs, netpol, probe, rbac, run, seccomp};
use screenshot_policy::address::Nat64Prefix;
use screenshot_policy::cidr::Cidr;
use screenshot_policy::host::HostName;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Keeps every ScreenshotService as its spec says.
#[derive(Parser)]
#[command(name = "screenshot-operator", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the operator until SIGTERM.
    Run(Box<Run>),
    /// Put the browser container's seccomp profile into the kubelet's seccomp directory.
    InstallSeccompProfile(Install),
    /// Take the profile away from the kubelet's seccomp directory, where no service is to run any more.
    RemoveSeccompProfile(Remove),
    /// Print the operator's RBAC rules as YAML.
    Rbac(Rbac),
    /// Print the ranges of addresses that are not public as YAML, for admission policies.
    Addresses,
    /// Judge a policy offline.
    #[command(subcommand)]
    Policy(PolicyCommand),
    /// Ask a URL until it answers 200. For `helm test`.
    Probe(Probe),
}

#[derive(Args)]
struct Run {
    /// Image of capture pods for services that name none.
    #[arg(long, env = "SHOT_CAPTURE_IMAGE")]
    capture_image: Option<String>,
    /// Namespace the operator runs in.
    #[arg(long, env = "POD_NAMESPACE", default_value = "screenshot-operator")]
    operator_namespace: String,
    /// Value of the operator pods' label app.kubernetes.io/name.
    #[arg(long, env = "SHOT_OPERATOR_NAME", default_value = "screenshot-operator")]
    operator_name: String,
    /// Name of this pod, for events.
    #[arg(long, env = "POD_NAME")]
    pod_name: Option<String>,
    /// Look after this namespace only; may be given several times.
    #[arg(long = "watch-namespace", env = "SHOT_WATCH_NAMESPACES", value_delimiter = ',')]
    watch_namespaces: Vec<String>,
    /// Make passes only while holding the Lease of this name in the operator's namespace, so that other replicas can
    /// stand by. Without it there must be one replica only.
    #[arg(long, env = "SHOT_LEASE_NAME")]
    lease_name: Option<String>,
    /// Domain of the cluster's Services. Default: what this pod's resolver searches, else cluster.local.
    #[arg(long, env = "SHOT_CLUSTER_DOMAIN")]
    cluster_domain: Option<HostName>,
    /// A prefix that the cluster's network translates to IPv4 (RFC 6052), such as 64:ff9b::/96; addresses in it are judged
    /// as the IPv4 addresses behind them. May be given up to 4 times. A change replaces every capture pod.
    #[arg(long = "nat64-prefix", env = "SHOT_NAT64_PREFIXES", value_delimiter = ',')]
    nat64_prefixes: Vec<Nat64Prefix>,
    /// A range that no page reaches without an exception, for what the operator cannot read: public addresses of nodes, load
    /// balancers, the API server. May be given up to 128 times. A change replaces every capture pod.
    #[arg(long = "extra-denied-cidr", env = "SHOT_EXTRA_DENIED_CIDRS", value_delimiter = ',')]
    extra_denied_cidrs: Vec<Cidr>,
    /// Where /healthz and /readyz are served.
    #[arg(long, env = "SHOT_HEALTH_ADDRESS", default_value_t = any(8081))]
    health_address: SocketAddr,
    /// Where /metrics is served.
    #[arg(long, env = "SHOT_METRICS_ADDRESS", default_value_t = any(9090))]
    metrics_address: SocketAddr,
    /// Where the canary answers, which capture pods try and must not reach.
    #[arg(long, env = "SHOT_CANARY_ADDRESS", default_value_t = any(8082))]
    canary_address: SocketAddr,
    /// Addresses of this pod; without them no capture pod is asked to try the canary.
    #[arg(long = "pod-ip", env = "POD_IPS", value_delimiter = ',')]
    pod_ips: Vec<IpAddr>,
    /// Addresses of this pod's node. A pod that shares them has no canary.
    #[arg(long = "node-ip", env = "NODE_IPS", value_delimiter = ',')]
    node_ips: Vec<IpAddr>,
    /// Which log lines are written, such as `info` or `screenshot_operator=debug`.
    #[arg(long, env = "SHOT_LOG", default_value = "info")]
    log: String,
}

#[derive(Args)]
struct Install {
    /// The kubelet's seccomp directory.
    directory: PathBuf,
    /// The profile, OCI JSON.
    #[arg(
        long,
        env = "SHOT_SECCOMP_SOURCE",
        default_value = "/etc/screenshot-operator/seccomp/capture-jail.json"
    )]
    source: PathBuf,
    /// Stay and mend the file every minute until SIGTERM.
    #[arg(long)]
    stay: bool,
    /// Write nothing: fail unless the profile is there as it is given.
    #[arg(long, conflicts_with = "stay")]
    check: bool,
}

#[derive(Subcommand)]
enum PolicyCommand {
    /// Compare what the proxy and the NetworkPolicies of rendered objects let through, and name every difference.
    Verify {
        /// YAML with the NetworkPolicies and the policy's ConfigMap of one or more services; `-` is standard input.
        file: PathBuf,
        /// The time at which exceptions are judged, RFC 3339. Default: now.
        #[arg(long)]
        at: Option<Timestamp>,
    },
}

#[derive(Args)]
struct Probe {
    /// What to ask, http only.
    url: axum::http::Uri,
    /// Seconds to go on asking, 1 to 600.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=600))]
    timeout_seconds: u64,
}

#[derive(Args)]
struct Remove {
    /// The kubelet's seccomp directory.
    directory: PathBuf,
    /// Stay, without doing anything more, until SIGTERM: a DaemonSet's pod must not end.
    #[arg(long)]
    stay: bool,
}

#[derive(Args)]
struct Rbac {
    /// Those in the operator's own namespace, wherever it looks after services.
    #[arg(long)]
    own_namespace: bool,
    /// Those over the whole cluster, where it looks after all of it: reading which addresses are the cluster's own.
    #[arg(long, conflicts_with = "own_namespace")]
    cluster: bool,
    /// Name of the Lease, for those.
    #[arg(long, default_value = "screenshot-operator")]
    lease_name: String,
}

fn any(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv6Addr::UNSPECIFIED, port))
}

type Outcome = Result<(), Box<dyn std::error::Error>>;

// One thread is enough: the operator waits for the API server and for pods. Each thread more would have a heap of its own,
// and by default there are as many as the node has cores.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Run(args) => Box::pin(run(*args)).await,
        Command::InstallSeccompProfile(args) => install(args).await,
        Command::Rbac(args) => rbac(&args),
        Command::Policy(PolicyCommand::Verify { file, at }) => verify(&file, at.unwrap_or_else(clock::wall)),
        Command::Addresses => print_yaml(address_lists::address_lists()),
        Command::Probe(args) => probe::probe(&args.url, Duration::from_secs(args.timeout_seconds))
            .await
            .map_err(Into::into),
        Command::RemoveSeccompProfile(args) => remove(args).await,
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("screenshot-operator: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Prints a line for each service and one for each difference; any difference is a failure.
fn verify(file: &Path, at: Timestamp) -> Outcome {
    let text = if file == Path::new("-") {
        std::io::read_to_string(std::io::stdin())?
    } else {
        std::fs::read_to_string(file)?
    };
    let (network, subjects) = netpol::verify::read(&text)?;
    let mut differences = 0;
    for subject in &subjects {
        let found = netpol::verify::compare(&subject.policy, &network, &subject.pod, at);
        let (compared, differ) = (found.compared, found.disagreements.len());
        let mut lines = format!(
            "{}: {compared} connections compared, {differ} differ\n",
            subject.service
        );
        for differ in &found.disagreements {
            lines.extend(["  ", &differ.to_string(), "\n"]);
        }
        say(&lines)?;
        differences += differ;
    }
    if differences == 0 {
        Ok(())
    } else {
        Err("proxy and NetworkPolicies differ".into())
    }
}

fn rbac(args: &Rbac) -> Outcome {
    print_yaml(if args.own_namespace {
        rbac::own_rules(&args.lease_name)?
    } else if args.cluster {
        rbac::cluster_rules()?
    } else {
        rbac::rules()?
    })
}

fn print_yaml(thing: impl serde::Serialize) -> Outcome {
    say(&serde_saphyr::to_string(&thing)?)?;
    Ok(())
}

/// Writes to standard output. Whoever closes it has read enough, as `head` does.
fn say(text: &str) -> std::io::Result<()> {
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        said => said,
    }
}

async fn install(args: Install) -> Outcome {
    if args.check {
        let there = seccomp::is_installed(&args.source, &args.directory)?;
        return there
            .then_some(())
            .ok_or_else(|| "the profile is not on this node".into());
    }
    let stop = stop_on_signal()?;
    loop {
        let outcome = seccomp::install(&args.source, &args.directory)?;
        if !args.stay || outcome == seccomp::Installed::Written {
            println!("seccomp profile: {outcome:?}");
        }
        if !args.stay {
            return Ok(());
        }
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = tokio::time::sleep(Duration::from_mins(1)) => {}
        }
    }
}

async fn remove(args: Remove) -> Outcome {
    let stop = stop_on_signal()?;
    println!("seccomp profile: {:?}", seccomp::remove(&args.directory)?);
    if args.stay {
        stop.cancelled().await;
    }
    Ok(())
}

async fn run(args: Run) -> Outcome {
    log(&args.log)?;
    let stop = stop_on_signal()?;
    let metrics = Arc::new(Metrics::default());
    let client = client::build(kube::Config::infer().await?, Arc::clone(&metrics))?;
    // Unique without a pod's name too: two processes of one name would both lead.
    let me = args
        .pod_name
        .clone()
        .unwrap_or_else(|| format!("pid-{}-{}", std::process::id(), clock::wall()));
    let lease = args.lease_name.filter(|name| !name.is_empty());
    let elector =
        lease.map(|lease| Elector::new(client.clone(), &args.operator_namespace, lease, me, Times::default()));
    let reporter = Reporter {
        controller: CONTROLLER.to_owned(),
        instance: args.pod_name,
    };
    let domain = args.cluster_domain.or_else(searched_domain);
    let cluster = ClusterSettings {
        domain: domain.unwrap_or_else(HostName::cluster_local),
        nat64_prefixes: args.nat64_prefixes,
        denied: args.extra_denied_cidrs,
    };
    cluster.check()?;
    let settings = Settings {
        capture_image: args.capture_image.filter(|image| !image.is_empty()),
        operator_namespace: args.operator_namespace,
        operator_name: args.operator_name,
        cluster,
    };
    let canary = Canary::at(&args.pod_ips, &args.node_ips, args.canary_address.port())?;
    let context = Arc::new(Context {
        canary: Arc::new(canary),
        ..Context::new(client, metrics, settings, reporter, clock::whole_seconds)
    });
    let scope = Scope::of(args.watch_namespaces);
    let ports = Ports {
        health: args.health_address,
        metrics: args.metrics_address,
        canary: args.canary_address,
    };
    tracing::info!(version = env!("CARGO_PKG_VERSION"), ?scope, "started");
    run::run(context, scope, elector, ports, stop).await?;
    tracing::info!("stopped");
    Ok(())
}

/// What the kubelet put into this pod's resolver.
fn searched_domain() -> Option<HostName> {
    domain_of(&std::fs::read_to_string("/etc/resolv.conf").ok()?)
}

fn log(filter: &str) -> Outcome {
    tracing::subscriber::set_global_default(logs::json(filter, std::io::stdout)?)?;
    Ok(())
}

fn stop_on_signal() -> std::io::Result<CancellationToken> {
    let token = CancellationToken::new();
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let stop = token.clone();
    tokio::spawn(async move {
        tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
        stop.cancel();
    });
    Ok(token)
}
