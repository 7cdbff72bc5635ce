//! Finds the arrows between files: a file uses a name that another file defines. Follows names through re-exports to the file
//! that defines them. `mod x;` and `pub use` are no arrows. Method calls are not resolved, because that needs types.

use crate::modules::{Found, Tree};
use crate::names::{Names, attributes, for_tests, imports, is_reexport};
use proc_macro2::{TokenStream, TokenTree};
use std::collections::{BTreeMap, BTreeSet};
use syn::visit::{self, Visit};

/// File → file → the names that the first uses of the second.
pub(crate) type Arrows = BTreeMap<String, BTreeMap<String, BTreeSet<String>>>;

/// Returns all arrows of a workspace.
pub(crate) fn arrows(tree: &Tree) -> Arrows {
    let mut arrows = tree.files.iter().map(|file| (file.clone(), BTreeMap::new())).collect();
    for (module, content) in tree.modules.iter().enumerate() {
        let mut reader = Reader { tree, module, blocks: Vec::new(), arrows: &mut arrows };
        content.items.iter().for_each(|item| reader.visit_item(item));
    }
    arrows
}

/// Visits the items of one module.
struct Reader<'a> {
    tree: &'a Tree,
    module: usize,
    /// Names of the blocks around the current expression, outermost first.
    blocks: Vec<Names>,
    arrows: &'a mut Arrows,
}

impl Reader<'_> {
    fn uses(&mut self, path: &[String]) {
        let from = self.tree.modules[self.module].file;
        let all = self.tree.resolve(self.module, &self.blocks, path);
        let local = ["crate", "self", "super"].contains(&path[0].as_str()) && path.len() > 1;
        assert!(!local || !all.is_empty(), "{}: cannot resolve {}", self.tree.files[from], path.join("::"));
        for found in all {
            if let Found::Item(to) = found
                && to != from
            {
                let names = self.arrows.entry(self.tree.files[from].clone()).or_default();
                let name = path.last().cloned().unwrap_or_default();
                names.entry(self.tree.files[to].clone()).or_default().insert(name);
            }
        }
    }

    /// Finds the paths in the arguments of a macro or an attribute.
    fn scan(&mut self, tokens: TokenStream) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let is = |at: usize, sign: char| matches!(tokens.get(at), Some(TokenTree::Punct(p)) if p.as_char() == sign);
        let mut at = 0;
        while at < tokens.len() {
            match &tokens[at] {
                TokenTree::Group(group) => self.scan(group.stream()),
                TokenTree::Ident(first) => {
                    // `.name` is a field or a method; `..name` ends a range
                    let member = at > 0 && is(at - 1, '.') && !(at > 1 && is(at - 2, '.'));
                    let mut path = vec![first.to_string()];
                    while is(at + 1, ':')
                        && is(at + 2, ':')
                        && let Some(TokenTree::Ident(next)) = tokens.get(at + 3)
                    {
                        path.push(next.to_string());
                        at += 3;
                    }
                    let key = path.len() == 1 && is(at + 1, ':');
                    if !member && !key {
                        self.uses(&path);
                    }
                }
                _ => {}
            }
            at += 1;
        }
    }
}

impl<'ast> Visit<'ast> for Reader<'_> {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        if !for_tests(attributes(item)) {
            visit::visit_item(self, item);
        }
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        if !for_tests(&item.attrs) {
            visit::visit_impl_item_fn(self, item);
        }
    }

    fn visit_field(&mut self, field: &'ast syn::Field) {
        if !for_tests(&field.attrs) {
            visit::visit_field(self, field);
        }
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        if !is_reexport(item) {
            imports(&item.tree).iter().for_each(|import| self.uses(&import.path));
        }
    }

    fn visit_block(&mut self, block: &'ast syn::Block) {
        let mut names = Names::default();
        for statement in &block.stmts {
            if let syn::Stmt::Item(item) = statement
                && !for_tests(attributes(item))
            {
                names.add(item);
            }
        }
        self.blocks.push(names);
        visit::visit_block(self, block);
        self.blocks.pop();
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments: Vec<String> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        self.uses(&segments);
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        self.visit_path(&call.path);
        self.scan(call.tokens.clone());
    }

    fn visit_meta_list(&mut self, list: &'ast syn::MetaList) {
        self.scan(list.tokens.clone());
    }
}
