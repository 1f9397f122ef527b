//! Loops for whatever vectors a processor has.

/// Compiles a function for the widest vectors of the processor that it runs on. (A closure would not do:
/// nothing makes the compiler put it where vectors are.)
#[macro_export]
macro_rules! vectorised {
    (
        $(#[$attribute:meta])*
        $seen:vis fn $name:ident<$life:lifetime>($($argument:ident: $kind:ty),* $(,)?)
        $(-> $output:ty)? $body:block
    ) => {
        $(#[$attribute])*
        $seen fn $name<$life>($($argument: $kind),*) $(-> $output)? {
            struct Work<$life>($($kind),*);

            impl<$life> pulp::WithSimd for Work<$life> {
                type Output = $crate::vectorised!(@output $($output)?);

                #[inline(always)]
                fn with_simd<S: pulp::Simd>(self, _: S) -> Self::Output {
                    let Self($($argument),*) = self;
                    $body
                }
            }

            pulp::Arch::new().dispatch(Work($($argument),*))
        }
    };
    (@output) => { () };
    (@output $output:ty) => { $output };
}
