//! The overlay as its nodes see it at one moment: which edges are one-sided, and how many components there are.

use std::collections::{BTreeMap, BTreeSet};

/// The active views of the nodes that answered, by peer id.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sight {
    views: BTreeMap<String, BTreeSet<String>>,
}

impl Sight {
    /// Adds what a node sees: its active view.
    pub fn insert(&mut self, peer: String, neighbours: impl IntoIterator<Item = String>) {
        self.views.insert(peer, neighbours.into_iter().collect());
    }

    /// Counts the nodes that answered.
    pub fn nodes(&self) -> usize {
        self.views.len()
    }

    /// Returns the edges `(from, to)` that `from` has and `to` doesn't have, or of which `to` didn't answer.
    pub fn one_sided(&self) -> BTreeSet<(String, String)> {
        let mut edges = BTreeSet::new();
        for (from, neighbours) in &self.views {
            for to in neighbours {
                let returned = self.views.get(to).is_some_and(|view| view.contains(from));
                if !returned {
                    edges.insert((from.clone(), to.clone()));
                }
            }
        }
        edges
    }

    /// Counts the components of the graph whose edges both ends have.
    pub fn components(&self) -> usize {
        let mut unseen: BTreeSet<&str> = self.views.keys().map(String::as_str).collect();
        let mut components = 0;
        while let Some(first) = unseen.pop_first() {
            components += 1;
            let mut frontier = vec![first];
            while let Some(peer) = frontier.pop() {
                for neighbour in &self.views[peer] {
                    let mutual = self
                        .views
                        .get(neighbour)
                        .is_some_and(|view| view.contains(peer));
                    if mutual && unseen.remove(neighbour.as_str()) {
                        frontier.push(neighbour);
                    }
                }
            }
        }
        components
    }

    /// Whether every edge has both ends and every node that answered reaches every other.
    pub fn is_whole(&self) -> bool {
        self.components() == 1 && self.one_sided().is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sight(views: &[(&str, &[&str])]) -> Sight {
        let mut sight = Sight::default();
        for (peer, neighbours) in views {
            sight.insert(
                (*peer).to_owned(),
                neighbours.iter().map(|name| (*name).to_owned()),
            );
        }
        sight
    }

    #[test]
    fn a_symmetric_chain_is_whole() {
        let chain = sight(&[("a", &["b"]), ("b", &["a", "c"]), ("c", &["b"])]);
        assert!(chain.is_whole());
        assert_eq!(chain.components(), 1);
    }

    #[test]
    fn an_edge_with_one_end_is_one_sided_and_connects_nothing() {
        let one_sided = sight(&[("a", &["b"]), ("b", &[])]);
        assert_eq!(
            one_sided.one_sided().into_iter().collect::<Vec<_>>(),
            [("a".to_owned(), "b".to_owned())]
        );
        assert_eq!(one_sided.components(), 2);
        assert!(!one_sided.is_whole());
    }

    #[test]
    fn an_edge_to_a_node_that_does_not_answer_is_one_sided() {
        let view = sight(&[("a", &["dead", "b"]), ("b", &["a"])]);
        assert_eq!(view.one_sided().len(), 1);
        assert_eq!(view.components(), 1);
    }

    #[test]
    fn separate_groups_are_counted() {
        let groups = sight(&[
            ("a", &["b"]),
            ("b", &["a"]),
            ("c", &["d"]),
            ("d", &["c"]),
            ("e", &[]),
        ]);
        assert_eq!(groups.components(), 3);
        assert!(groups.one_sided().is_empty());
    }

    #[test]
    fn nobody_is_no_component() {
        assert_eq!(Sight::default().components(), 0);
        assert!(!Sight::default().is_whole());
    }

    #[test]
    fn a_lone_node_is_whole() {
        assert!(sight(&[("a", &[])]).is_whole());
    }
}
