//! The modules of the workspace, read from their files, and what each name in them means. What is compiled only for tests
//! is left out.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use syn::punctuated::Punctuated;
use syn::{Attribute, Item, Meta, Token, UseTree, Visibility};

/// The modules of all crates.
pub(crate) struct Tree {
    /// Paths of the files, relative to the workspace.
    pub(crate) files: Vec<String>,
    pub(crate) modules: Vec<Module>,
    /// Root modules by the name of their crate.
    roots: BTreeMap<String, usize>,
}

/// A module: a file, or a `mod x { … }` within one.
pub(crate) struct Module {
    /// Index in [`Tree::files`].
    pub(crate) file: usize,
    parent: Option<usize>,
    root: usize,
    /// Its items without `mod` items.
    pub(crate) items: Vec<Item>,
    names: Names,
}

/// The names of a module or of a block.
#[derive(Default)]
pub(crate) struct Names {
    names: BTreeMap<String, Vec<Meaning>>,
    /// Paths of which everything is imported.
    globs: Vec<Vec<String>>,
}

/// What a name is.
#[derive(Clone)]
enum Meaning {
    Module(usize),
    Defined,
    Import(Vec<String>),
}

/// What a path leads to.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Found {
    Module(usize),
    /// An item defined in this file.
    Item(usize),
}

/// One name that a `use` item brings in, `*` for all.
pub(crate) struct Import {
    pub(crate) path: Vec<String>,
    name: String,
}

impl Tree {
    /// Reads all modules of `crates` (name, root file) of the workspace in `folder`.
    pub(crate) fn read(folder: &Path, crates: &[(&str, &str)]) -> Self {
        let mut tree = Self { files: Vec::new(), modules: Vec::new(), roots: BTreeMap::new() };
        for (name, root) in crates {
            let file = folder.join(root);
            let module = tree.add_file(folder, &file, file.parent().expect("a file is in a folder"), None);
            tree.roots.insert((*name).to_owned(), module);
        }
        tree
    }

    /// Adds the module in `file`, whose child modules are files in `children`.
    fn add_file(&mut self, folder: &Path, file: &Path, children: &Path, parent: Option<usize>) -> usize {
        let text = std::fs::read_to_string(file).unwrap_or_else(|err| panic!("{}: {err}", file.display()));
        let parsed = syn::parse_file(&text).unwrap_or_else(|err| panic!("{}: {err}", file.display()));
        let name = file.strip_prefix(folder).expect("modules are in the workspace").to_string_lossy();
        self.files.push(name.replace('\\', "/"));
        self.add(folder, self.files.len() - 1, children, parent, parsed.items)
    }

    fn add(&mut self, folder: &Path, file: usize, children: &Path, parent: Option<usize>, items: Vec<Item>) -> usize {
        let id = self.modules.len();
        let root = parent.map_or(id, |parent| self.modules[parent].root);
        let (modules, items): (Vec<_>, Vec<_>) = items
            .into_iter()
            .filter(|item| !for_tests(attributes(item)))
            .partition(|item| matches!(item, Item::Mod(_)));
        let mut names = Names::default();
        items.iter().for_each(|item| names.add(item));
        self.modules.push(Module { file, parent, root, items, names });
        for module in modules {
            let Item::Mod(module) = module else { unreachable!() };
            let name = module.ident.to_string();
            let child = if let Some((_, items)) = module.content {
                self.add(folder, file, &children.join(&name), Some(id), items)
            } else {
                let (file, children) = module_file(children, &name);
                self.add_file(folder, &file, &children, Some(id))
            };
            self.modules[id].names.insert(name, Meaning::Module(child));
        }
        id
    }

    /// What `path`, written in `module` inside of blocks with the names `blocks`, leads to. Nothing for names of other
    /// crates, of the language, and of local variables.
    pub(crate) fn resolve(&self, module: usize, blocks: &[Names], path: &[String]) -> BTreeSet<Found> {
        self.follow(module, blocks, path, &mut BTreeSet::new())
    }

    fn follow(&self, module: usize, blocks: &[Names], path: &[String], seen: &mut Seen) -> BTreeSet<Found> {
        let Some((first, rest)) = path.split_first() else { return BTreeSet::new() };
        let mut found = match first.as_str() {
            "crate" => BTreeSet::from([Found::Module(self.modules[module].root)]),
            "self" => BTreeSet::from([Found::Module(module)]),
            "super" => self.modules[module].parent.map(Found::Module).into_iter().collect(),
            name => self.in_scope(module, blocks, name, seen),
        };
        for name in rest {
            // What is in a type belongs to the type.
            let modules = found.iter().filter_map(|found| match found {
                Found::Module(module) => Some(*module),
                Found::Item(_) => None,
            });
            let modules: Vec<usize> = modules.collect();
            if modules.is_empty() {
                return found;
            }
            found = modules.into_iter().flat_map(|module| self.member(module, name, seen)).collect();
        }
        found
    }

    fn in_scope(&self, module: usize, blocks: &[Names], name: &str, seen: &mut Seen) -> BTreeSet<Found> {
        for (depth, block) in blocks.iter().enumerate().rev() {
            let found = self.named(module, &blocks[..depth], block, name, seen);
            if !found.is_empty() {
                return found;
            }
        }
        let found = self.member(module, name, seen);
        if found.is_empty() {
            self.roots.get(name).map(|root| Found::Module(*root)).into_iter().collect()
        } else {
            found
        }
    }

    fn member(&self, module: usize, name: &str, seen: &mut Seen) -> BTreeSet<Found> {
        if name == "super" {
            return self.modules[module].parent.map(Found::Module).into_iter().collect();
        }
        if !seen.insert((module, name.to_owned())) {
            return BTreeSet::new();
        }
        let found = self.named(module, &[], &self.modules[module].names, name, seen);
        seen.remove(&(module, name.to_owned()));
        found
    }

    fn named(&self, module: usize, blocks: &[Names], names: &Names, name: &str, seen: &mut Seen) -> BTreeSet<Found> {
        let mut found = BTreeSet::new();
        for meaning in names.names.get(name).into_iter().flatten() {
            match meaning {
                Meaning::Module(child) => drop(found.insert(Found::Module(*child))),
                Meaning::Defined => drop(found.insert(Found::Item(self.modules[module].file))),
                Meaning::Import(path) => found.extend(self.follow(module, blocks, path, seen)),
            }
        }
        if found.is_empty() {
            for glob in &names.globs {
                for from in self.follow(module, blocks, glob, seen) {
                    if let Found::Module(from) = from {
                        found.extend(self.member(from, name, seen));
                    }
                }
            }
        }
        found
    }
}

/// Names that are being looked up, so that imports in a circle end.
type Seen = BTreeSet<(usize, String)>;

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
            Item::Macro(item) if item.ident.is_some() => item.ident.as_ref().expect("just looked at"),
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

    fn insert(&mut self, name: String, meaning: Meaning) {
        self.names.entry(name).or_default().push(meaning);
    }
}

/// The file of module `name` in the folder `folder`, and the folder of its own modules.
fn module_file(folder: &Path, name: &str) -> (PathBuf, PathBuf) {
    let (file, children) = (folder.join(format!("{name}.rs")), folder.join(name));
    if file.is_file() { (file, children) } else { (children.join("mod.rs"), children) }
}

/// The names that a `use` brings in.
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

/// Whether a `use` gives its names on to other modules.
pub(crate) fn is_reexport(item: &syn::ItemUse) -> bool {
    !matches!(item.vis, Visibility::Inherited)
}

/// Whether an item with these attributes is there only in tests.
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

/// The attributes of an item of any kind that can be switched off.
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
