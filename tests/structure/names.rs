//! The names that an item defines or imports, and whether it is compiled only for tests.

use proc_macro2::{TokenStream, TokenTree};
use std::collections::BTreeMap;
use syn::punctuated::Punctuated;
use syn::{Attribute, Item, Meta, Token, UseTree, Visibility};

/// The names of a module or of a block.
#[derive(Default)]
pub(crate) struct Names {
    pub(crate) names: BTreeMap<String, Vec<Meaning>>,
    /// Paths of which everything is imported.
    pub(crate) globs: Vec<Vec<String>>,
}

/// The meaning of a name.
pub(crate) enum Meaning {
    /// The module with this number.
    Module(usize),
    /// An item of this module.
    Defined,
    /// The item that this path leads to.
    Import(Vec<String>),
}

/// One name that a `use` imports; `*` for all.
pub(crate) struct Import {
    pub(crate) path: Vec<String>,
    name: String,
}

impl Names {
    /// Adds what `item` defines or imports.
    pub(crate) fn add(&mut self, item: &Item) {
        let name = match item {
            Item::Const(item) => &item.ident,
            Item::Enum(item) => &item.ident,
            Item::Fn(item) => &item.sig.ident,
            Item::Static(item) => &item.ident,
            Item::Struct(item) => &item.ident,
            Item::Trait(item) => &item.ident,
            Item::Type(item) => &item.ident,
            Item::Union(item) => &item.ident,
            Item::Macro(item) => {
                item.ident.iter().for_each(|name| self.insert(name.to_string(), Meaning::Defined));
                self.add_defined_by(item.mac.tokens.clone());
                return;
            }
            Item::Use(item) => {
                for import in imports(&item.tree) {
                    match import.name.as_str() {
                        "*" => self.globs.push(import.path),
                        _ => self.insert(import.name, Meaning::Import(import.path)),
                    }
                }
                return;
            }
            _ => return,
        };
        self.insert(name.to_string(), Meaning::Defined);
    }

    /// Adds the items that a macro generates: each name after a keyword such as `enum`.
    fn add_defined_by(&mut self, tokens: TokenStream) {
        let mut keyword = false;
        for token in tokens {
            match token {
                TokenTree::Ident(name) if keyword => {
                    self.insert(name.to_string(), Meaning::Defined);
                    keyword = false;
                }
                TokenTree::Ident(word) => {
                    let items = ["const", "enum", "fn", "static", "struct", "trait", "type", "union"];
                    keyword = items.contains(&word.to_string().as_str());
                }
                TokenTree::Group(group) => {
                    self.add_defined_by(group.stream());
                    keyword = false;
                }
                _ => keyword = false,
            }
        }
    }

    pub(crate) fn insert(&mut self, name: String, meaning: Meaning) {
        self.names.entry(name).or_default().push(meaning);
    }
}

/// Returns the names that a `use` imports.
pub(crate) fn imports(tree: &UseTree) -> Vec<Import> {
    fn walk(tree: &UseTree, path: &[String], all: &mut Vec<Import>) {
        let with = |name: &syn::Ident| [path, &[name.to_string()]].concat();
        match tree {
            UseTree::Path(step) => walk(&step.tree, &with(&step.ident), all),
            UseTree::Group(group) => group.items.iter().for_each(|tree| walk(tree, path, all)),
            UseTree::Glob(_) => all.push(Import { path: path.to_vec(), name: "*".to_owned() }),
            UseTree::Name(last) if last.ident == "self" => {
                all.push(Import { path: path.to_vec(), name: path.last().cloned().unwrap_or_default() });
            }
            UseTree::Name(last) => all.push(Import { path: with(&last.ident), name: last.ident.to_string() }),
            UseTree::Rename(last) if last.ident == "self" => {
                all.push(Import { path: path.to_vec(), name: last.rename.to_string() });
            }
            UseTree::Rename(last) => all.push(Import { path: with(&last.ident), name: last.rename.to_string() }),
        }
    }
    let mut all = Vec::new();
    walk(tree, &[], &mut all);
    all
}

/// Whether a `use` re-exports its names.
pub(crate) fn is_reexport(item: &syn::ItemUse) -> bool {
    !matches!(item.vis, Visibility::Inherited)
}

/// Whether an item with these attributes is compiled only for tests.
pub(crate) fn for_tests(attributes: &[Attribute]) -> bool {
    fn needs_test(meta: &Meta) -> bool {
        let Meta::List(list) = meta else { return meta.path().is_ident("test") };
        let Ok(inner) = list.parse_args_with(Punctuated::<Meta, Token![,]>::parse_terminated) else { return false };
        match () {
            () if list.path.is_ident("cfg") || list.path.is_ident("all") => inner.iter().any(needs_test),
            () if list.path.is_ident("any") => inner.iter().all(needs_test),
            () => false,
        }
    }
    attributes.iter().any(|attribute| needs_test(&attribute.meta))
}

/// Returns the attributes of an item.
pub(crate) fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::ForeignMod(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Union(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}
