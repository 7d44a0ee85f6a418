"""Names of models: what ships with the package, what others released, their licences and what they were made from."""
