//! What newer kernels can do, each of which can be masked: older kernels are proved by doing without.

/// One feature of FUSE in newer kernels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KernelFeature {
    /// Complete files are read by the kernel itself (Linux 6.9).
    Passthrough,
    /// Unanswered requests are sent again to a new node (Linux 6.9).
    Resend,
    /// Files read past the page cache can be mapped (Linux 6.6).
    DirectMmap,
    /// Requests larger than 128 KiB (Linux 4.20), and more read-ahead, which takes root.
    LargeReads,
    /// One notification expires every name (Linux 6.17).
    Epoch,
}

impl KernelFeature {
    /// Every feature, with the name that settings use.
    pub const ALL: [(&'static str, Self); 5] = [
        ("passthrough", Self::Passthrough),
        ("resend", Self::Resend),
        ("direct-mmap", Self::DirectMmap),
        ("large-reads", Self::LargeReads),
        ("epoch", Self::Epoch),
    ];

    /// The feature of a name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(known, _)| *known == name).map(|(_, feature)| *feature)
    }
}

/// Features to do without.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KernelMask(u8);

impl KernelMask {
    /// Masks one more feature.
    #[must_use]
    pub fn with(self, feature: KernelFeature) -> Self {
        Self(self.0 | 1 << feature as u8)
    }

    /// True when the feature is to be done without.
    pub fn masks(self, feature: KernelFeature) -> bool {
        self.0 & 1 << feature as u8 != 0
    }
}
