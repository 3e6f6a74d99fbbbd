//! What `#[domain_event(…)]` says, with errors that say what to write instead.

use syn::{
    Attribute, Error, Field, Fields, Index, LitStr, Member, Path, Result, Type, meta::ParseNestedMeta,
    spanned::Spanned,
};

use crate::event_type;

/// Where attributes stand, which decides what they may say.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Struct,
    Enum,
    Variant,
}

/// What stands above a struct, an enum or a variant.
#[derive(Default)]
pub(crate) struct Attributes {
    pub(crate) event_type: Option<LitStr>,
    pub(crate) resource: Option<LitStr>,
    pub(crate) crate_path: Option<Path>,
}

impl Attributes {
    pub(crate) fn read(attributes: &[Attribute], place: Place) -> Result<Self> {
        let mut read = Self::default();
        for_each(attributes, |meta| read.take(meta, place))?;
        Ok(read)
    }

    fn take(&mut self, meta: &ParseNestedMeta, place: Place) -> Result<()> {
        let path = &meta.path;
        if path.is_ident("type") && place == Place::Enum {
            Err(meta.error("an enum has one type for each variant: write `type` above the variants"))
        } else if path.is_ident("type") {
            let literal = string(meta, "order.placed")?;
            event_type::check(&literal)?;
            set(&mut self.event_type, literal, meta)
        } else if path.is_ident("resource") {
            let literal = string(meta, "order")?;
            if literal.value().trim().is_empty() {
                return Err(Error::new(
                    literal.span(),
                    "the resource is blank; leave it out if there is none",
                ));
            }
            set(&mut self.resource, literal, meta)
        } else if path.is_ident("crate") && place == Place::Variant {
            Err(meta.error("`crate` belongs above the enum"))
        } else if path.is_ident("crate") {
            set(&mut self.crate_path, string(meta, "outbox")?.parse()?, meta)
        } else if path.is_ident("resource_id") || path.is_ident("partition_key") {
            Err(meta.error("this belongs on a field: #[domain_event(resource_id)] order_id: Uuid"))
        } else {
            Err(unknown(meta, place))
        }
    }
}

/// The fields that identify the resource and the partition.
#[derive(Default)]
pub(crate) struct Keys {
    pub(crate) resource_id: Option<Key>,
    pub(crate) partition_key: Option<Key>,
}

/// A field whose text is an id or a key.
pub(crate) struct Key {
    pub(crate) member: Member,
    /// The type that is turned into text: what is inside, where the field is an `Option`.
    pub(crate) ty: Type,
    pub(crate) is_optional: bool,
}

impl Keys {
    pub(crate) fn read(fields: &Fields) -> Result<Self> {
        let mut keys = Self::default();
        for (index, field) in fields.iter().enumerate() {
            for_each(&field.attrs, |meta| {
                if meta.path.is_ident("resource_id") {
                    set(&mut keys.resource_id, Key::new(index, field), meta)
                } else if meta.path.is_ident("partition_key") {
                    set(&mut keys.partition_key, Key::new(index, field), meta)
                } else if meta.path.is_ident("type") || meta.path.is_ident("resource") {
                    Err(meta.error("this belongs above the struct or the variant, not on a field"))
                } else {
                    Err(meta.error(format!(
                        "unknown attribute `{}`; a field knows `resource_id` and `partition_key`",
                        name_of(meta)
                    )))
                }
            })?;
        }
        Ok(keys)
    }
}

impl Key {
    fn new(index: usize, field: &Field) -> Self {
        let member = field.ident.clone().map_or_else(|| Member::Unnamed(Index::from(index)), Member::Named);
        let inner = inside_option(&field.ty);
        Self { member, ty: inner.unwrap_or(&field.ty).clone(), is_optional: inner.is_some() }
    }
}

/// `T` of a type that is written as `Option<T>`: a macro sees the text of a type and not what it names.
fn inside_option(ty: &Type) -> Option<&Type> {
    match ty {
        Type::Group(group) => inside_option(&group.elem),
        Type::Paren(paren) => inside_option(&paren.elem),
        Type::Path(path) if path.qself.is_none() => {
            let last = path.path.segments.last().filter(|segment| segment.ident == "Option")?;
            match &last.arguments {
                syn::PathArguments::AngleBracketed(arguments) => match arguments.args.first()? {
                    syn::GenericArgument::Type(inner) if arguments.args.len() == 1 => Some(inner),
                    _ => None,
                },
                _ => None,
            }
        }
        _ => None,
    }
}

fn for_each(attributes: &[Attribute], mut take: impl FnMut(&ParseNestedMeta) -> Result<()>) -> Result<()> {
    attributes
        .iter()
        .filter(|attribute| attribute.path().is_ident("domain_event"))
        .try_for_each(|attribute| attribute.parse_nested_meta(|meta| take(&meta)))
}

fn set<T>(slot: &mut Option<T>, value: T, meta: &ParseNestedMeta) -> Result<()> {
    if slot.is_some() {
        return Err(meta.error(format!("`{}` is given twice; keep one", name_of(meta))));
    }
    *slot = Some(value);
    Ok(())
}

fn string(meta: &ParseNestedMeta, example: &str) -> Result<LitStr> {
    let hint = || format!("write a string: {} = \"{example}\"", name_of(meta));
    let value = meta.value().map_err(|_| meta.error(hint()))?;
    value.parse().map_err(|error: Error| Error::new(error.span(), hint()))
}

fn unknown(meta: &ParseNestedMeta, place: Place) -> Error {
    let known = match place {
        Place::Struct => "a struct knows `type`, `resource` and `crate`",
        Place::Enum => "an enum knows `resource` and `crate`, its variants `type` and `resource`",
        Place::Variant => "a variant knows `type` and `resource`",
    };
    meta.error(format!("unknown attribute `{}`; {known}", name_of(meta)))
}

fn name_of(meta: &ParseNestedMeta) -> String {
    meta.path.segments.iter().map(|segment| segment.ident.to_string()).collect::<Vec<_>>().join("::")
}

/// A missing type, told where the name is.
pub(crate) fn missing_type(named: &impl Spanned) -> Error {
    Error::new(
        named.span(),
        "the type of the event is missing: write #[domain_event(type = \"order.placed\")] above it",
    )
}
