//! Tree to model: references resolved, defaults applied, contradictions found.
//!
//! Values were checked when the tree was made: a value that is faulty has been reported, and here only makes its object
//! disappear quietly. With any error there is no model, so nothing half-built ever leaves this module.

mod check;
mod cluster;
mod ike;
mod instances;
mod interface;
mod member;
mod policy;
mod server;
mod timeline;
mod trace;

use std::collections::HashSet;

use crate::finding::{Finding, Kind, Severity};
use crate::model::{Configuration, TraceScope};
use crate::place::{Place, Span};
use crate::tree::{Node, Tree, survey};

/// What a tree means, and everything there is to say about it. A `fragment` is a part of a configuration: what it
/// refers to may be elsewhere, so missing things are warnings, and it has no model.
pub(crate) fn validate(tree: &Tree, fragment: bool) -> (Option<Configuration>, Vec<Finding>) {
    let mut builder = Builder { findings: survey(&tree.root, has_test_lifetimes(&tree.root)), fragment };
    let configuration = builder.configuration(&tree.root);
    check::check(&mut builder, &configuration);
    let mut findings = builder.findings;
    findings.sort_by_key(|finding| finding.span.start);
    let failed = findings.iter().any(|finding| finding.severity == Severity::Error);
    ((!failed && !fragment).then_some(configuration), findings)
}

fn has_test_lifetimes(root: &Node) -> bool {
    At::top(root).descend(&["security", "group-vpn", "test-lifetimes"]).is_some()
}

struct Builder {
    findings: Vec<Finding>,
    fragment: bool,
}

/// A container or list entry with its statement path.
#[derive(Clone)]
struct At<'a> {
    node: &'a Node,
    path: String,
}

impl<'a> At<'a> {
    fn top(node: &'a Node) -> At<'a> {
        At { node, path: String::new() }
    }

    fn of(&self, node: &'a Node) -> At<'a> {
        let words = crate::text_of(&node.words());
        let path = if self.path.is_empty() { words } else { format!("{} {words}", self.path) };
        At { node, path }
    }

    fn child(&self, name: &str) -> Option<At<'a>> {
        self.node.child(name).map(|node| self.of(node))
    }

    fn descend(&self, names: &[&str]) -> Option<At<'a>> {
        names.iter().try_fold(self.clone(), |at, name| at.child(name))
    }

    fn children(&self, name: &'static str) -> impl Iterator<Item = At<'a>> {
        let own = self.clone();
        self.node.children_named(name).map(move |node| own.of(node))
    }

    fn key(&self) -> &'a str {
        self.node.value()
    }

    fn place(&self) -> Place {
        Place { path: self.path.clone(), span: self.node.span }
    }

    fn has(&self, name: &str) -> bool {
        self.node.child(name).is_some()
    }

    /// The value of a leaf inside, if it is written and right.
    fn value<T>(&self, name: &str, parse: impl Fn(&str) -> Option<T>) -> Option<T> {
        let leaf = self.node.child(name)?;
        if leaf.faulty { None } else { parse(leaf.value()) }
    }

    fn text(&self, name: &str) -> Option<String> {
        self.value(name, |text| Some(text.to_owned()))
    }

    fn number<T: std::str::FromStr>(&self, name: &str) -> Option<T> {
        self.value(name, |text| text.parse().ok())
    }
}

impl Builder {
    fn error(&mut self, kind: Kind, span: Span, path: &str, message: impl Into<String>, remedy: &str) {
        let mut finding = Finding::error(kind, span, path, message);
        if !remedy.is_empty() {
            finding = finding.remedy(remedy);
        }
        self.findings.push(finding);
    }

    fn warn(&mut self, kind: Kind, span: Span, path: &str, message: impl Into<String>, remedy: &str) {
        self.findings.push(Finding::warning(kind, span, path, message).remedy(remedy));
    }

    /// An error in a whole configuration; in a fragment a warning, as the rest may make it right.
    fn outside(&mut self, kind: Kind, span: Span, path: &str, message: impl Into<String>, remedy: &str) {
        let severity = if self.fragment { Severity::Warning } else { Severity::Error };
        let mut finding = Finding::new(severity, kind, span, path, message);
        if !remedy.is_empty() {
            finding = finding.remedy(remedy);
        }
        self.findings.push(finding);
    }

    /// The value of a leaf that must be there.
    fn require<T>(&mut self, at: &At<'_>, name: &str, parse: impl Fn(&str) -> Option<T>) -> Option<T> {
        if !at.has(name) {
            let message = format!("`{}` has no `{name}`", crate::text_of(&at.node.words()));
            let expected = expectation_of(at.node, name);
            let severity = if self.fragment { Severity::Warning } else { Severity::Error };
            let mut finding = Finding::new(severity, Kind::Missing, at.node.span, at.path.clone(), message);
            finding.expected = expected;
            self.findings.push(finding.remedy(format!("add `{name} ...;`")));
            return None;
        }
        at.value(name, parse)
    }

    /// A reference by name that must lead to something.
    fn dangling(&mut self, at: &At<'_>, leaf: &Node, what: &str, known: &[String]) {
        let name = leaf.value();
        let near = crate::nearest::nearest(name, known.iter().map(String::as_str));
        let remedy = match near {
            Some(near) => format!("did you mean `{near}`?"),
            None if self.fragment => format!("it must be defined where this part is placed: {what}"),
            None => format!("define it: `{what} {name} {{ ... }}`"),
        };
        let message = format!("{what} `{name}` is not defined");
        self.outside(Kind::DanglingReference, leaf.span, &at.path, message, &remedy);
    }

    fn configuration(&mut self, root: &Node) -> Configuration {
        let top = At::top(root);
        let group_vpn = top.descend(&["security", "group-vpn"]);
        let role = |name: &str| group_vpn.as_ref().and_then(|at| at.child(name));
        let co_located = |name: &str| group_vpn.as_ref().and_then(|at| at.descend(&["co-location", name]));
        let mut trace_options = Vec::new();

        let server = self.one_of("server", role("server"), co_located("server"));
        let member = self.one_of("member", role("member"), co_located("member"));
        if let (Some(server), Some(member)) = (role("server"), role("member")) {
            self.warn(
                Kind::Conflict,
                member.node.span,
                &member.path,
                format!("this machine is key server (line {}) and member", server.node.span.line),
                "put both under `security group-vpn co-location`",
            );
        }
        if let Some(server) = &server {
            trace_options.extend(self.trace_options(server, TraceScope::Server));
        }
        if let Some(ike) = member.as_ref().and_then(|member| member.child("ike")) {
            trace_options.extend(self.trace_options(&ike, TraceScope::Member));
        }
        if let Some(security) = top.child("security") {
            trace_options.extend(self.trace_options(&security, TraceScope::Security));
            if let Some(ipsec) = security.child("ipsec") {
                trace_options.extend(self.trace_options(&ipsec, TraceScope::Ipsec));
            }
        }
        let zones = self.zones(&top);
        let books = self.address_books(&top);
        let (policies, ipsec_policies) = self.policies(&top, &zones, &books);
        let default = top.descend(&["security", "policies", "default-policy"]);
        let routing_instances = self.routing_instances(&top);
        Configuration {
            server: server.map(|at| self.server(&at)),
            member: member.map(|at| self.member(&at, &top)),
            zones,
            policies,
            default_policy: self.default_policy(default),
            dynamic_policy: top.descend(&["security", "policies", "dynamic-policy", "enable"]).is_some(),
            ipsec_policies,
            interfaces: self.interfaces(&top, &routing_instances),
            routing_instances,
            service_sets: self.service_sets(&top),
            service_filters: self.service_filters(&top),
            test_lifetimes: self.test_lifetimes(group_vpn.as_ref()),
            trace_options,
        }
    }

    fn test_lifetimes(&mut self, group_vpn: Option<&At<'_>>) -> bool {
        let Some(statement) = group_vpn.and_then(|at| at.child("test-lifetimes")) else { return false };
        let message = "`test-lifetimes` is for tests only: keys may be shorter-lived than a network stands";
        let remedy = "remove it wherever traffic matters";
        self.warn(Kind::Timing, statement.node.span, &statement.path, message, remedy);
        true
    }

    /// A role stands at one place only.
    fn one_of<'a>(
        &mut self,
        name: &str,
        plain: Option<At<'a>>,
        co_located: Option<At<'a>>,
    ) -> Option<At<'a>> {
        if let (Some(plain), Some(co_located)) = (&plain, &co_located) {
            self.error(
                Kind::Conflict,
                co_located.node.span,
                &co_located.path,
                format!("`{name}` stands here and on line {}", plain.node.span.line),
                "keep the one under `co-location`",
            );
        }
        co_located.or(plain)
    }
}

/// What the schema expects of a leaf inside a statement.
fn expectation_of(node: &Node, name: &str) -> Option<String> {
    use crate::schema::Shape;
    let entry = node.entry?.child(name)?;
    match entry.shape() {
        Shape::Leaf(value) | Shape::Leaves { value, .. } => Some(value.expectation()),
        Shape::Container | Shape::List { .. } | Shape::Flag | Shape::Foreign | Shape::Same(_) => None,
    }
}

/// Finds what is there twice: calls back with the later and the earlier of each pair.
fn duplicates<T, K: std::hash::Hash + Eq>(items: &[T], key: impl Fn(&T) -> K, mut found: impl FnMut(&T, &T)) {
    let mut seen = HashSet::new();
    for (index, item) in items.iter().enumerate() {
        let own = key(item);
        if seen.contains(&own)
            && let Some(first) = items[..index].iter().find(|other| key(other) == own)
        {
            found(item, first);
        }
        seen.insert(own);
    }
}
