/// Where a row lies in its table (`ctid`): good until the row is next written.
public struct TupleID: Sendable, Hashable {
    /// The block of the table.
    public var block: UInt32
    /// The place within the block, from 1; 0 is nowhere.
    public var offset: UInt16

    /// A place; by default one that no row is in.
    public init(block: UInt32 = 0, offset: UInt16 = 0) {
        self.block = block
        self.offset = offset
    }
}
