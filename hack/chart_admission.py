"""The chart's admission policy on a real API server: who may turn protection down, word for word.

In: kubectl on PATH for a cluster that this script may fill. Out: one line per rule; exit 1 with what was said instead.
Must not: talk to anything but that cluster.
"""

import copy
import json
import subprocess
import sys
import time

import kubectl

NAMESPACE = "web"
DEGRADED = ("spec.sandbox.mode: 'Degraded' confines browsers less; in namespace 'web' you need the verb 'use' on "
            "'degraded-sandbox' of exemptions.screenshot-operator.io for it")
PROFILE = ("spec.sandbox.seccompProfile: 'own/profile.json' is not the operator's own; in namespace 'web' you need the verb "
           "'use' on 'own-seccomp-profile' of exemptions.screenshot-operator.io for it")
UNENFORCED = ("spec.network.egress.enforcement: 'Advisory' lets pods run where NetworkPolicies are not enforced; in "
              "namespace 'web' you need the verb 'use' on 'unenforced-egress' of exemptions.screenshot-operator.io for it")
REMOTE = ("spec.network.egress.upstreamProxy.resolve: 'Remote' leaves addresses unchecked; in namespace 'web' you need the "
          "verb 'use' on 'remote-resolution' of exemptions.screenshot-operator.io for it")
PRIVATE_PROXY = ("spec.network.egress.upstreamProxy: '{}' is not public; in namespace 'web' you need the verb 'use' on "
                 "'private-egress' of exemptions.screenshot-operator.io for it")
DISGUISED_PROXY = "spec.network.egress.upstreamProxy.url: host '{}' must be written as the IPv4 address that it stands for"
LOGIN = ("spec.network.egress.upstreamProxy.credentialsSecretName: you need the verb 'get' on the Secret 'login' in namespace "
         "'web', as its content is sent to the proxy")
PRIVATE = ("spec.network.egress.exceptions: '{}' is not public; in namespace 'web' you need the verb 'use' on "
           "'private-egress' of exemptions.screenshot-operator.io for it")
METADATA = ("spec.network.egress.exceptions: '{}' holds the metadata address of a cloud, which no exception may open")
METADATA_PROXY = "spec.network.egress.upstreamProxy: '{}' holds the metadata address of a cloud, at which no proxy may be"
UNVOUCHED = ("spec.network.egress.tls.hosts: no authority vouches for '{}'; in namespace 'web' you need the verb 'use' on "
             "'pinned-certificates' of exemptions.screenshot-operator.io for it")
DISGUISED = "spec.network.egress.exceptions: host '{}' must be written as the IPv4 address that it stands for"
# An editor of the namespace; the same with every exemption; with one each; and the cluster's own admin.
USERS = {"editor": [], "trusted": ["degraded-sandbox", "own-seccomp-profile", "pinned-certificates", "private-egress",
                                     "remote-resolution", "unenforced-egress"],
         "degrader": ["degraded-sandbox"], "profiler": ["own-seccomp-profile"], "opener": ["private-egress"],
         "adviser": ["unenforced-egress"], "resolver": ["remote-resolution"], "pinner": ["pinned-certificates"]}
# The cluster's own, though they are public.
OWN = ["9.9.9.0/24", "2620:fe::/48"]
# Who may edit services and see no Secret.
AUTHOR = "author"
ADMIN = None


def service(name, spec):
    return {"apiVersion": "screenshot-operator.io/v1alpha1", "kind": "ScreenshotService",
            "metadata": {"name": name, "namespace": NAMESPACE}, "spec": spec}


def opening(host, cidr=None, ports=(443,), expires="2030-01-01T00:00:00Z", reason="a test"):
    exception = {"host": host, "ports": list(ports), "reason": reason, "expires": expires}
    if cidr:
        exception["cidr"] = cidr
    return exception


def excepting(*exceptions):
    return {"network": {"egress": {"exceptions": list(exceptions)}}}


def keyed(host, trust="PinnedKey", pins=("A",), expires="2030-01-01T00:00:00Z"):
    entry = {"host": host, "trust": trust, "spkiPins": [pin * 43 + "=" for pin in pins]}
    if trust == "PinnedKey":
        entry |= {"reason": "a test", "expires": expires}
    return entry


def keying(*hosts):
    return {"network": {"egress": {"tls": {"hosts": list(hosts)}}}}


def install():
    """The chart as a user installs it, and the users."""
    subprocess.run(["helm", "install", "release", "charts/screenshot-operator", "--namespace", "operators",
                    "--create-namespace", "--set", "seccompInstaller.enabled=false", "--set",
                    f"cluster.extraDeniedCIDRs={{{','.join(OWN)}}}"], check=True,
                   stdout=subprocess.DEVNULL)
    kubectl.must("wait", "--for=condition=Established", "--timeout=30s",
                 "crd/screenshotservices.screenshot-operator.io")
    kubectl.must("create", "namespace", NAMESPACE)
    kubectl.must("create", "rolebinding", "author-edits", "-n", NAMESPACE,
                 "--clusterrole=release-screenshot-operator-edit", f"--user={AUTHOR}")
    for user, exemptions in USERS.items():
        kubectl.must("create", "rolebinding", f"{user}-edits", "-n", NAMESPACE, "--clusterrole=edit", f"--user={user}")
        if exemptions:
            kubectl.must("apply", "-f", "-", given={
                "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role",
                "metadata": {"name": user, "namespace": NAMESPACE},
                "rules": [{"apiGroups": ["screenshot-operator.io"], "resources": ["exemptions"],
                           "resourceNames": exemptions, "verbs": ["use"]}]})
            kubectl.must("create", "rolebinding", user, "-n", NAMESPACE, f"--role={user}", f"--user={user}")


def wait_until_in_force():
    """A new policy acts within a second or two, and so do a new role and its aggregation."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        said = create("editor", {"sandbox": {"mode": "Degraded"}})
        if said == DEGRADED and create("editor", {}) is None:
            return
        time.sleep(0.2)
    sys.exit(f"chart-admission: the policy is not in force after 30 s: {said}")


def create(user, spec):
    return kubectl.refusal(kubectl.run("create", "--dry-run=server", "-f", "-", user=user, given=service("s", spec)))


def expect(title, answers):
    """`answers`: pairs of what was said and what should have been, None for yes."""
    for said, wanted in answers:
        if said != wanted:
            sys.exit(f"chart-admission: {title}:\n  said:   {said}\n  wanted: {wanted}")
    print("chart-admission: ok:", title)


def creations():
    degraded = {"sandbox": {"mode": "Degraded"}}
    expect("a service with every control on is anyone's who may edit",
           [(create(user, {}), None) for user in [*USERS, ADMIN]])
    expect("a degraded sandbox is for those who may use that exemption",
           [(create(user, degraded), None) for user in ("trusted", "degrader", ADMIN)]
           + [(create(user, degraded), DEGRADED) for user in ("editor", "opener")])
    own = {"sandbox": {"seccompProfile": "own/profile.json"}}
    expect("a seccomp profile of one's own is for those who may use that exemption",
           [(create(user, own), None) for user in ("trusted", "profiler", ADMIN)]
           + [(create(user, own), PROFILE) for user in ("editor", "degrader")])
    advisory = {"network": {"egress": {"enforcement": "Advisory"}}}
    expect("running where NetworkPolicies are not enforced is for those who may use that exemption",
           [(create(user, advisory), None) for user in ("trusted", "adviser", ADMIN)]
           + [(create(user, advisory), UNENFORCED) for user in ("editor", "opener")])
    pinned = keying(keyed("a.example.com", "PublicAuthorities"), keyed("b.example.com"))
    expect("a certificate that no authority vouches for is for those who may use that exemption",
           [(create(user, pinned), None) for user in ("trusted", "pinner", ADMIN)]
           + [(create(user, pinned), UNVOUCHED.format("b.example.com")) for user in ("editor", "opener")])
    expect("pins beside what authorities vouch for are anyone's who may edit",
           [(create("editor", keying(keyed("a.example.com", "PublicAuthorities"))), None)])
    private = {
        "10.1.2.3": opening("10.1.2.3"), "192.168.7.0/24": opening("printer.example.com", "192.168.7.0/24"),
        "[fd12::1]": opening("[fd12::1]"), "fd00:1::/64": opening("printer.example.com", "fd00:1::/64"),
        "100.64.0.0/16": opening("cgnat.example.com", "100.64.0.0/16"),
        "203.0.113.10": opening("203.0.113.10"), "shop.web.svc": opening("shop.web.svc"),
        "db.web.svc.cluster.local": opening("db.web.svc.cluster.local"),
        # Wide ranges that hold a private one, though they begin outside it.
        "172.0.0.0/8": opening("wide.example.com", "172.0.0.0/8"),
        "2000::/8": opening("wide.example.com", "2000::/8"),
        "9.9.9.0/28": opening("node.example.com", "9.9.9.0/28"), "2620:fe::9/128": opening("[2620:fe::9]"),
    }
    shown = {"10.1.2.3": "10.1.2.3/32", "[fd12::1]": "fd12::1/128", "203.0.113.10": "203.0.113.10/32"}
    for name, exception in private.items():
        refused = PRIVATE.format(shown.get(name, name))
        expect(f"an exception for {name} is for those who may use that exemption",
               [(create(user, excepting(exception)), None) for user in ("trusted", "opener", ADMIN)]
               + [(create(user, excepting(exception)), refused) for user in ("editor", "degrader")])
    public = [opening("1.1.1.1", ports=(8443,)), opening("api.example.com", "198.41.0.0/24"),
              opening("[2606:4700::1111]"), opening("api.example.com", "2606:4700::/32")]
    expect("an exception for a public address is anyone's who may edit",
           [(create("editor", excepting(exception)), None) for exception in public])
    expect("one private exception among public ones is found",
           [(create("editor", excepting(*public, opening("10.0.0.1"))), PRIVATE.format("10.0.0.1/32"))])


def proxies():
    def through(url, **more):
        return {"network": {"egress": {"upstreamProxy": {"url": url, **more}}}}

    public = [through("http://proxy.example.com:3128"), through("https://1.1.1.1:443"),
              through("socks5://[2606:4700::1111]:1080"), through("http://proxy.example.com:3128", cidr="198.41.0.0/24")]
    expect("an upstream proxy at a public address is anyone's who may edit",
           [(create(user, spec), None) for spec in public for user in ("editor", AUTHOR)])
    private = {"10.1.2.3/32": through("http://10.1.2.3:3128"), "fd12::1/128": through("http://[fd12::1]:3128"),
               "10.0.0.0/8": through("http://proxy.example.com:3128", cidr="10.0.0.0/8"),
               "squid.web.svc": through("http://squid.web.svc:3128"), "9.9.9.9/32": through("http://9.9.9.9:3128")}
    for shown, spec in private.items():
        expect(f"an upstream proxy at {shown} is for those who may use that exemption",
               [(create(user, spec), None) for user in ("trusted", "opener", ADMIN)]
               + [(create(user, spec), PRIVATE_PROXY.format(shown)) for user in ("editor", "resolver")])
    inside = {"169.254.169.254/32": through("http://169.254.169.254:80"),
              "fd00:ec2::254/128": through("http://[fd00:ec2::254]:80"),
              "169.254.0.0/16": through("http://proxy.example.com:3128", cidr="169.254.0.0/16"),
              "100.64.0.0/10": through("http://proxy.example.com:3128", cidr="100.64.0.0/10")}
    expect("nobody, not even the cluster's admin, has a proxy at a metadata address",
           [(create(user, spec), METADATA_PROXY.format(shown)) for shown, spec in inside.items()
            for user in ("trusted", ADMIN)])
    mapped = through("http://[::ffff:a00:1]:3128")
    expect("nor is it an IPv4 address in IPv6 clothes", [(create(ADMIN, mapped), DISGUISED_PROXY.format("::ffff:a00:1"))])
    remote = through("http://proxy.example.com:3128", resolve="Remote")
    expect("an upstream proxy that resolves is for those who may use that exemption",
           [(create(user, remote), None) for user in ("trusted", "resolver", ADMIN)]
           + [(create(user, remote), REMOTE) for user in ("editor", "opener")])
    login = through("http://proxy.example.com:3128", credentialsSecretName="login")
    expect("a Secret is sent to a proxy only by those who may read it",
           [(create("editor", login), None), (create(AUTHOR, login), LOGIN)])


def metadata():
    hosts = {"169.254.169.254": "169.254.169.254/32", "169.254.170.2": "169.254.170.2/32",
             "100.100.100.200": "100.100.100.200/32", "168.63.129.16": "168.63.129.16/32",
             "192.0.0.192": "192.0.0.192/32", "[fd00:ec2::254]": "fd00:ec2::254/128"}
    ranges = ["169.254.0.0/16", "100.64.0.0/10", "168.63.0.0/16", "0.0.0.0/0", "fd00::/8", "::/0"]
    answers = []
    for user in ("trusted", ADMIN):
        answers += [(create(user, excepting(opening(host))), METADATA.format(shown)) for host, shown in hosts.items()]
        answers += [(create(user, excepting(opening("m.example.com", cidr))), METADATA.format(cidr)) for cidr in ranges]
    expect("nobody, not even the cluster's admin, excepts a metadata address", answers)
    mapped = "[::ffff:169.254.169.254]"
    expect("nor an IPv4 address in IPv6 clothes",
           [(create(ADMIN, excepting(opening(mapped))), DISGUISED.format(mapped))])


def updates():
    wide = excepting(opening("10.1.0.0", "10.1.0.0/16", ports=(80, 443)))
    wide["network"]["egress"]["enforcement"] = "Advisory"
    wide["sandbox"] = {"mode": "Degraded", "seccompProfile": "own/profile.json"}
    kubectl.must("create", "-f", "-", given=service("wide", wide))

    def apply(user, change, subresource=None):
        changed = service("wide", copy.deepcopy(wide))
        change(changed)
        arguments = ["--subresource", subresource] if subresource else []
        return kubectl.refusal(kubectl.run("apply", "--server-side", "--force-conflicts", "--dry-run=server",
                                           *arguments, "-f", "-", user=user, given=changed))

    def first(changed):
        return changed["spec"]["network"]["egress"]["exceptions"][0]

    same = [lambda s: s["metadata"].update(labels={"team": "web"}), lambda s: s["spec"].update(replicas=3),
            lambda s: first(s).update(reason="another"), lambda s: first(s).update(ports=[443]),
            lambda s: first(s).update(expires="2029-01-01T00:00:00Z"),
            lambda s: s["spec"].pop("network"), lambda s: s["spec"].update(sandbox={"mode": "Required"}),
            lambda s: s["spec"]["network"]["egress"].update(enforcement="Required"),
            lambda s: s["spec"]["sandbox"].pop("seccompProfile")]
    expect("what is wide already in every way is edited, and narrowed, by anyone who may edit",
           [(apply("editor", change), None) for change in same])
    wider = {
        "10.1.0.0/16": [lambda s: first(s).update(ports=[80, 443, 8080]),
                        lambda s: first(s).update(expires="2031-01-01T00:00:00Z"),
                        lambda s: first(s).update(host="10.1.0.1")],
        "10.0.0.0/8": [lambda s: first(s).update(cidr="10.0.0.0/8")],
        "10.9.9.9/32": [lambda s: s["spec"]["network"]["egress"]["exceptions"].append(opening("10.9.9.9"))],
    }
    another = [lambda s: s["spec"]["sandbox"].update(seccompProfile="another/profile.json")]
    asked = [(change, PRIVATE.format(shown)) for shown, changes in wider.items() for change in changes] + [
        (change, PROFILE.replace("own/profile.json", "another/profile.json")) for change in another]
    expect("what would be wider than before is asked for again",
           [(apply("editor", change), refused) for change, refused in asked]
           + [(apply("trusted", change), None) for change, _ in asked])
    pins()
    kubectl.must("create", "-f", "-", given=service("strict", {}))

    def patch(user, spec):
        return kubectl.refusal(kubectl.run("patch", "shot", "strict", "-n", NAMESPACE, "--type=merge", "--dry-run=server",
                                           "-p", json.dumps({"spec": spec}), user=user))

    later = [({"sandbox": {"mode": "Degraded"}}, "degrader", DEGRADED),
             ({"sandbox": {"seccompProfile": "own/profile.json"}}, "profiler", PROFILE),
             ({"network": {"egress": {"enforcement": "Advisory"}}}, "adviser", UNENFORCED),
             (excepting(opening("10.1.2.3")), "opener", PRIVATE.format("10.1.2.3/32"))]
    expect("turning any of it down later is refused as at creation",
           [(patch("editor", spec), refused) for spec, _, refused in later]
           + [(patch(user, spec), None) for spec, user, _ in later]
           + [(patch("trusted", excepting(opening("169.254.169.254"))), METADATA.format("169.254.169.254/32"))])
    scale = ["scale", "shot/wide", "-n", NAMESPACE, "--replicas=1"]
    operator = "system:serviceaccount:operators:release-screenshot-operator"
    # Server-side apply, as the operator has it: its rights on the status are to write it, not to read it.
    status = ["apply", "--server-side", "--subresource=status", "--field-manager=chart-tests", "-f", "-"]
    seen = {**service("wide", {}), "status": {"observedGeneration": 1}}
    del seen["spec"]
    expect("scaling and the operator's status are no business of the policy",
           [(kubectl.refusal(kubectl.run(*scale, user="editor")), None),
            (kubectl.refusal(kubectl.run(*status, user=operator, given=seen)), None)])


def pins():
    """Of an object that has two keys for one host already."""
    kubectl.must("create", "-f", "-", given=service("keyed", keying(keyed("a.example.com", pins=("A", "E")))))

    def replace(user, *hosts):
        return kubectl.refusal(kubectl.run("replace", "--dry-run=server", "-f", "-", user=user,
                                           given=service("keyed", keying(*hosts))))

    narrower = [keyed("a.example.com"), keyed("a.example.com", "PublicAuthorities", ("Q",)),
                keyed("a.example.com", pins=("A", "E"), expires="2029-01-01T00:00:00Z")]
    wider = [keyed("b.example.com"), keyed("a.example.com", pins=("A", "I")),
             keyed("a.example.com", expires="2031-01-01T00:00:00Z")]
    expect("a host that is known by its key is edited, and narrowed, by anyone who may edit",
           [(replace("editor", host), None) for host in narrower])
    expect("another host, another key or a later end is asked for again",
           [(replace("editor", host), UNVOUCHED.format(host["host"])) for host in wider]
           + [(replace("pinner", host), None) for host in wider])


def types():
    warnings = kubectl.must("get", "validatingadmissionpolicy", "release-screenshot-operator-exemptions",
                            "-o", "jsonpath={.status.typeChecking.expressionWarnings}")
    expect("the API server's type check of the expressions has no warning", [(warnings, "")])


def main():
    install()
    wait_until_in_force()
    creations()
    proxies()
    metadata()
    updates()
    types()


if __name__ == "__main__":
    main()
