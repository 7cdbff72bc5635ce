//! Checks the references between the rules of a grammar.

use super::gbnf_items::{Item, Rules};
use std::collections::{HashMap, HashSet};

/// Ways to begin a rule: llama.cpp follows each of them.
const WAYS_MAX: u64 = 100_000;
/// Refuses references to rules that do not exist.
pub(super) fn check_references(items: &[Item], rules: &Rules) -> Result<(), String> {
    items.iter().try_for_each(|item| match item {
        Item::Text | Item::Empty => Ok(()),
        Item::Rule(name) if rules.contains_key(name) => Ok(()),
        Item::Rule(name) => Err(format!("the grammar has no rule '{name}'")),
        Item::Group(alternates) => alternates.iter().try_for_each(|items| check_references(items, rules)),
        Item::Optional(item) => check_references(std::slice::from_ref(item), rules),
    })
}

/// Refuses rules that can begin with themselves: llama.cpp would not end. Each rule is visited once.
pub(super) fn check_left_recursion(rules: &Rules) -> Result<(), String> {
    let mut empty: HashSet<&str> = HashSet::new();
    loop {
        let before = empty.len();
        for (name, alternates) in rules {
            if !empty.contains(name.as_str()) && may_be_empty(alternates, &empty) {
                empty.insert(name);
            }
        }
        if empty.len() == before {
            break;
        }
    }
    // The number of ways to begin each rule that was left.
    let mut done: HashMap<&str, u64> = HashMap::new();
    for start in rules.keys() {
        // A path of rules, each of which can begin with the next one; the flag tells that a rule is left.
        let mut open: Vec<(&str, bool)> = vec![(start, false)];
        let mut path: HashSet<&str> = HashSet::new();
        while let Some((name, leave)) = open.pop() {
            if leave {
                path.remove(name);
                let mut first = Vec::new();
                rules.get(name).into_iter().flatten().for_each(|items| first_rules(items, &empty, &mut first));
                let ways = first.iter().map(|name| done.get(name).copied().unwrap_or(0));
                let ways = ways.fold(1_u64, u64::saturating_add);
                if ways > WAYS_MAX {
                    return Err(format!("the rule '{name}' can begin in more than {WAYS_MAX} ways"));
                }
                done.insert(name, ways);
                continue;
            }
            if path.contains(name) {
                return Err(format!("the rule '{name}' can begin with itself"));
            }
            if done.contains_key(name) {
                continue;
            }
            path.insert(name);
            open.push((name, true));
            let mut first = Vec::new();
            rules.get(name).into_iter().flatten().for_each(|items| first_rules(items, &empty, &mut first));
            open.extend(first.into_iter().map(|name| (name, false)));
        }
    }
    Ok(())
}

fn may_be_empty(alternates: &[Vec<Item>], empty: &HashSet<&str>) -> bool {
    alternates.iter().any(|items| items.iter().all(|item| is_empty(item, empty)))
}

fn is_empty(item: &Item, empty: &HashSet<&str>) -> bool {
    match item {
        Item::Text => false,
        Item::Empty | Item::Optional(_) => true,
        Item::Rule(name) => empty.contains(name.as_str()),
        Item::Group(alternates) => may_be_empty(alternates, empty),
    }
}

/// Collects the rules that a sequence can begin with.
fn first_rules<'i>(items: &'i [Item], empty: &HashSet<&str>, first: &mut Vec<&'i str>) {
    for item in items {
        match item {
            Item::Text | Item::Empty => {}
            Item::Rule(name) => first.push(name),
            Item::Group(alternates) => alternates.iter().for_each(|items| first_rules(items, empty, first)),
            Item::Optional(item) => first_rules(std::slice::from_ref(item), empty, first),
        }
        if !is_empty(item, empty) {
            return;
        }
    }
}
