/// The location of a row in its table (`ctid`). It is valid until the row is next written.
package struct TupleID: Sendable, Hashable {
    /// The block of the table.
    package var block: UInt32
    /// The position within the block, starting from 1; 0 for no row.
    package var offset: UInt16

    /// Makes a location; by default one without a row.
    package init(block: UInt32 = 0, offset: UInt16 = 0) {
        self.block = block
        self.offset = offset
    }
}
