module screenshot-operator.io/tests/site

go 1.24
