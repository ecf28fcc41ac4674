/// The version of Breakwater, as `worker --version` tells it.
package let breakwaterVersion = "0.1.0"
