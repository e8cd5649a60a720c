//! Doc comments without a word that the names of the item, of its parent and of its type lack.

use std::collections::BTreeSet;

use proc_macro2::{Span, TokenStream, TokenTree};
use syn::visit::{self, Visit};
use syn::{Attribute, Expr, ExprLit, Ident, ImplItem, Item, Lit, Meta, ReturnType, TraitItem, Type};

use super::tree::Files;

/// Words that tell nothing.
const FILLERS: [&str; 23] = [
    "a", "an", "and", "are", "as", "at", "be", "by", "for", "from", "has", "in", "is", "it", "its", "of", "on", "or",
    "that", "the", "this", "to", "with",
];

/// Doc comments that say nothing, as `file:line: item: comment`.
pub fn empty_docs(files: &Files) -> Vec<String> {
    let mut breaches = Vec::new();
    for (file, text) in files.iter().filter(|(file, _)| file.ends_with(".rs")) {
        let text = syn::parse_file(text).unwrap_or_else(|error| panic!("{file}: {error}"));
        Reader { file, parents: Vec::new(), breaches: &mut breaches }.visit_file(&text);
    }
    breaches
}

/// The words that matter, in singular and in lower case.
fn words(text: &str) -> BTreeSet<String> {
    let text = text.replace("'s", "");
    let mut words = BTreeSet::new();
    for part in text.split(|c: char| !c.is_alphanumeric()) {
        let mut start = 0;
        let chars = Vec::from_iter(part.char_indices());
        let humps = chars.windows(2).filter(|pair| pair[0].1.is_lowercase() && pair[1].1.is_uppercase());
        for end in humps.map(|pair| pair[1].0).chain([part.len()]) {
            let word = part[start..end].to_lowercase();
            start = end;
            if !FILLERS.contains(&word.as_str()) && !word.is_empty() {
                words.insert(word.strip_suffix('s').map(str::to_owned).unwrap_or(word));
            }
        }
    }
    words
}

/// Every name in a piece of text.
#[derive(Default)]
struct Idents(Vec<String>);

impl Visit<'_> for Idents {
    fn visit_ident(&mut self, ident: &Ident) {
        self.0.push(ident.to_string());
    }
}

fn idents(part: impl FnOnce(&mut Idents)) -> Vec<String> {
    let mut idents = Idents::default();
    part(&mut idents);
    idents.0
}

fn of_type(kind: &Type) -> Vec<String> {
    idents(|found| found.visit_type(kind))
}

fn of_return(kind: &ReturnType) -> Vec<String> {
    idents(|found| found.visit_return_type(kind))
}

struct Reader<'a> {
    file: &'a str,
    /// The names of the type that the item belongs to.
    parents: Vec<String>,
    breaches: &'a mut Vec<String>,
}

impl Reader<'_> {
    fn check(&mut self, attributes: &[Attribute], name: &Ident, of_type: Vec<String>) {
        let line = |attribute: &Attribute| match &attribute.meta {
            Meta::NameValue(pair) if attribute.path().is_ident("doc") => match &pair.value {
                Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) => Some(text.value()),
                _ => None,
            },
            _ => None,
        };
        let doc = attributes.iter().filter_map(line).collect::<Vec<_>>();
        self.check_text(name.span(), &doc, &name.to_string(), of_type);
    }

    fn check_text(&mut self, span: Span, doc: &[String], name: &str, of_type: Vec<String>) {
        let doc = doc.join(" ");
        let known = of_type.iter().chain(&self.parents).map(String::as_str).chain([name]).collect::<Vec<_>>();
        if !doc.is_empty() && words(&doc).is_subset(&words(&known.join(" "))) {
            let line = span.start().line;
            self.breaches.push(format!("{}:{line}: {name}: {}", self.file, doc.trim()));
        }
    }

    /// Visits what belongs to a type.
    fn within(&mut self, parents: Vec<String>, visit: impl FnOnce(&mut Reader<'_>)) {
        visit(&mut Reader { file: self.file, parents, breaches: self.breaches });
    }

    /// Items in a macro call: after comments, attributes and key words comes the name.
    fn check_tokens(&mut self, tokens: TokenStream) {
        let mut doc = Vec::new();
        let mut last_name = None;
        let mut is_after_hash = false;
        for token in tokens {
            let was_after_hash = std::mem::take(&mut is_after_hash);
            match token {
                TokenTree::Punct(mark) if mark.as_char() == '#' => is_after_hash = true,
                TokenTree::Punct(_) => doc.clear(),
                TokenTree::Group(group) if was_after_hash => doc.extend(doc_of(group.stream())),
                TokenTree::Group(group) => {
                    let parents = Vec::from_iter(last_name.clone());
                    self.within(parents, |inner| inner.check_tokens(group.stream()));
                }
                TokenTree::Ident(word) if is_key_word(&word) => {}
                TokenTree::Ident(name) => {
                    self.check_text(name.span(), &std::mem::take(&mut doc), &name.to_string(), Vec::new());
                    last_name = Some(name.to_string());
                }
                TokenTree::Literal(_) => {}
            }
        }
    }
}

fn is_key_word(word: &Ident) -> bool {
    ["pub", "const", "enum", "fn", "mod", "static", "struct", "trait", "type"].iter().any(|key| word == key)
}

/// The text of a `doc` attribute's inside.
fn doc_of(attribute: TokenStream) -> Option<String> {
    match Vec::from_iter(attribute).as_slice() {
        [TokenTree::Ident(doc), _, TokenTree::Literal(text)] if doc == "doc" => {
            syn::parse_str::<syn::LitStr>(&text.to_string()).ok().map(|text| text.value())
        }
        _ => None,
    }
}

impl Visit<'_> for Reader<'_> {
    fn visit_item(&mut self, item: &Item) {
        let (attributes, name, of_type) = match item {
            Item::Const(item) => (&item.attrs, &item.ident, of_type(&item.ty)),
            Item::Enum(item) => (&item.attrs, &item.ident, Vec::new()),
            Item::Fn(item) => (&item.attrs, &item.sig.ident, of_return(&item.sig.output)),
            Item::Mod(item) => (&item.attrs, &item.ident, Vec::new()),
            Item::Static(item) => (&item.attrs, &item.ident, of_type(&item.ty)),
            Item::Struct(item) => (&item.attrs, &item.ident, Vec::new()),
            Item::Trait(item) => (&item.attrs, &item.ident, Vec::new()),
            Item::Type(item) => (&item.attrs, &item.ident, of_type(&item.ty)),
            Item::Impl(item) => {
                return self.within(of_type(&item.self_ty), |inner| visit::visit_item_impl(inner, item));
            }
            item => return visit::visit_item(self, item),
        };
        self.check(attributes, name, of_type);
        self.within(vec![name.to_string()], |inner| visit::visit_item(inner, item));
    }

    fn visit_impl_item(&mut self, item: &ImplItem) {
        match item {
            ImplItem::Const(item) => self.check(&item.attrs, &item.ident, of_type(&item.ty)),
            ImplItem::Fn(item) => self.check(&item.attrs, &item.sig.ident, of_return(&item.sig.output)),
            _ => {}
        }
        visit::visit_impl_item(self, item);
    }

    fn visit_trait_item(&mut self, item: &TraitItem) {
        match item {
            TraitItem::Const(item) => self.check(&item.attrs, &item.ident, of_type(&item.ty)),
            TraitItem::Fn(item) => self.check(&item.attrs, &item.sig.ident, of_return(&item.sig.output)),
            TraitItem::Type(item) => self.check(&item.attrs, &item.ident, Vec::new()),
            _ => {}
        }
        visit::visit_trait_item(self, item);
    }

    fn visit_field(&mut self, field: &syn::Field) {
        if let Some(name) = &field.ident {
            self.check(&field.attrs, name, of_type(&field.ty));
        }
    }

    fn visit_variant(&mut self, variant: &syn::Variant) {
        self.check(&variant.attrs, &variant.ident, Vec::new());
        visit::visit_variant(self, variant);
    }

    fn visit_macro(&mut self, call: &syn::Macro) {
        self.check_tokens(call.tokens.clone());
    }
}
