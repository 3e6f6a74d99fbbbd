//! From the attributes to the implementation.

use proc_macro2::{Span, TokenStream, TokenTree};
use quote::{ToTokens, quote, quote_spanned};
use syn::{
    Data, DeriveInput, Error, Fields, Generics, LitStr, Path, Result, WhereClause, parse_quote,
    spanned::Spanned,
};

use crate::{
    attributes::{Attributes, Key, Keys, Place, missing_type},
    paths,
};

/// One type of event: the struct, or a variant of the enum.
struct Shape {
    /// How it is matched: `Self` or `Self::Variant`.
    pattern: TokenStream,
    event_type: LitStr,
    resource: Option<LitStr>,
    keys: Keys,
}

pub(crate) fn expand(input: &DeriveInput) -> Result<TokenStream> {
    let (container, shapes) = read(input)?;
    let outbox = match container.crate_path {
        Some(path) => path,
        None => paths::outbox()?,
    };
    Ok(implement(input, &outbox, &shapes))
}

fn read(input: &DeriveInput) -> Result<(Attributes, Vec<Shape>)> {
    match &input.data {
        Data::Struct(data) => {
            let container = Attributes::read(&input.attrs, Place::Struct)?;
            let event_type = container.event_type.clone().ok_or_else(|| missing_type(&input.ident))?;
            let resource = container.resource.clone();
            let shape = Shape::new(quote!(Self), event_type, resource, &data.fields)?;
            Ok((container, vec![shape]))
        }
        Data::Enum(data) if data.variants.is_empty() => {
            Err(Error::new(input.ident.span(), "an enum without variants has no event: give it one"))
        }
        Data::Enum(data) => {
            let container = Attributes::read(&input.attrs, Place::Enum)?;
            let shapes = data.variants.iter().map(|variant| {
                let own = Attributes::read(&variant.attrs, Place::Variant)?;
                let event_type = own.event_type.ok_or_else(|| missing_type(&variant.ident))?;
                let resource = own.resource.or_else(|| container.resource.clone());
                let name = &variant.ident;
                Shape::new(quote!(Self::#name), event_type, resource, &variant.fields)
            });
            let shapes = all(shapes)?;
            Ok((container, shapes))
        }
        Data::Union(_) => Err(Error::new(input.ident.span(), "a union is no event: use a struct or an enum")),
    }
}

/// All of them, or all their errors at once.
fn all<T>(results: impl Iterator<Item = Result<T>>) -> Result<Vec<T>> {
    let mut values = Vec::new();
    let mut errors: Option<Error> = None;
    for result in results {
        match (result, &mut errors) {
            (Ok(value), _) => values.push(value),
            (Err(error), Some(errors)) => errors.combine(error),
            (Err(error), none) => *none = Some(error),
        }
    }
    errors.map_or(Ok(values), Err)
}

impl Shape {
    fn new(
        pattern: TokenStream,
        event_type: LitStr,
        resource: Option<LitStr>,
        fields: &Fields,
    ) -> Result<Self> {
        Ok(Self { pattern, event_type, resource, keys: Keys::read(fields)? })
    }
}

fn implement(input: &DeriveInput, outbox: &Path, shapes: &[Shape]) -> TokenStream {
    let name = &input.ident;
    let where_clause = bounds(&input.generics, name, shapes);
    let (impl_generics, type_generics, _) = input.generics.split_for_impl();

    let event_types =
        shapes.iter().map(|Shape { pattern, event_type, .. }| quote!(#pattern { .. } => #event_type,));
    let resource = shapes.iter().any(|shape| shape.resource.is_some()).then(|| {
        let arms = shapes.iter().map(|Shape { pattern, resource, .. }| {
            let answer = resource.as_ref().map_or_else(
                || quote!(::core::option::Option::None),
                |resource| quote!(::core::option::Option::Some(#resource)),
            );
            quote!(#pattern { .. } => #answer,)
        });
        quote! {
            fn resource(&self) -> ::core::option::Option<&str> {
                match self { #(#arms)* }
            }
        }
    });
    let resource_id = shapes.iter().any(|shape| shape.keys.resource_id.is_some()).then(|| {
        let arms = shapes.iter().map(|Shape { pattern, keys, .. }| {
            key_arm(pattern, keys.resource_id.as_ref(), &quote!(::core::option::Option::None))
        });
        quote! {
            fn resource_id(&self) -> ::core::option::Option<::std::string::String> {
                match self { #(#arms)* }
            }
        }
    });
    // Left out where nobody asked for it: the trait's own default is the resource id.
    let partition_key = shapes.iter().any(|shape| shape.keys.partition_key.is_some()).then(|| {
        let default = quote!(#outbox::DomainEvent::resource_id(self));
        let arms = shapes
            .iter()
            .map(|Shape { pattern, keys, .. }| key_arm(pattern, keys.partition_key.as_ref(), &default));
        quote! {
            fn partition_key(&self) -> ::core::option::Option<::std::string::String> {
                match self { #(#arms)* }
            }
        }
    });

    quote! {
        #[automatically_derived]
        #[allow(deprecated)]
        impl #impl_generics #outbox::DomainEvent for #name #type_generics #where_clause {
            fn event_type(&self) -> &str {
                match self { #(#event_types)* }
            }
            #resource
            #resource_id
            #partition_key
        }
    }
}

fn key_arm(pattern: &TokenStream, key: Option<&Key>, otherwise: &TokenStream) -> TokenStream {
    let Some(Key { member, ty, is_optional }) = key else {
        return quote!(#pattern { .. } => #otherwise,);
    };
    // At the field's type, so that one without `ToString` is blamed there; resolved here, because the type may
    // come from a macro of the user's, which knows no `__field`.
    let span = ty.span().resolved_at(Span::call_site());
    let to_string = quote_spanned!(span => <#ty as ::std::string::ToString>::to_string);
    let text = if *is_optional {
        quote!(::core::option::Option::as_ref(__field).map(#to_string))
    } else {
        quote!(::core::option::Option::Some(#to_string(__field)))
    };
    quote!(#pattern { #member: __field, .. } => #text,)
}

/// The user's own bounds and, for a generic type, what its keys and its payload need.
fn bounds(generics: &Generics, name: &syn::Ident, shapes: &[Shape]) -> Option<WhereClause> {
    let parameters: Vec<_> = generics.type_params().map(|parameter| parameter.ident.to_string()).collect();
    let mut generics = generics.clone();
    if parameters.is_empty() {
        return generics.where_clause;
    }
    let own = generics.clone();
    let (_, type_generics, _) = own.split_for_impl();
    let predicates = &mut generics.make_where_clause().predicates;
    if let Some(serde) = paths::serde() {
        predicates.push(parse_quote!(#name #type_generics: #serde::Serialize));
    }
    let keys = shapes.iter().flat_map(|shape| [&shape.keys.resource_id, &shape.keys.partition_key]);
    for Key { ty, .. } in keys.flatten().filter(|key| mentions(key.ty.to_token_stream(), &parameters)) {
        predicates.push(parse_quote!(#ty: ::std::string::ToString));
    }
    generics.where_clause
}

/// Whether a type names one of the parameters: a bound on a type that does not would be a warning.
fn mentions(tokens: TokenStream, parameters: &[String]) -> bool {
    tokens.into_iter().any(|token| match token {
        TokenTree::Ident(ident) => parameters.contains(&ident.to_string()),
        TokenTree::Group(group) => mentions(group.stream(), parameters),
        _ => false,
    })
}
