/// The version of Breakwater, as `worker --version` prints it.
package let breakwaterVersion = "0.1.0"
