package user_test

import "testing"

func TestLifeOfAUser(t *testing.T) {
	c := world(t)
	id := c.Users["a-user"].User.ID.String()
	for _, x := range []string{"lockUser", "enableUser"} {
		a := c.Must("root", x, "id", id)
		c.Golden(x, a)
		c.CheckSDK(x, a)
	}
	up := c.Must("root", "updateUser", "id", id, "firstname", "New", "timezone", "Europe/Berlin", "password", "another one")
	c.Golden("updateUser", up)
	c.CheckSDK("updateUser", up)
	for _, x := range [][]string{
		{"a-user", "updateUser", "id", id, "password", "x2"},                                        // without the current one
		{"a-user", "updateUser", "id", id, "password", "x2", "currentpassword", "wrong"},            //
		{"root", "updateUser", "id", id, "password", "a-user"},                                      // the name
		{"root", "updateUser", "id", id, "timezone", "Nowhere/At all"},                              //
		{"a-admin", "updateUser", "id", c.Users["a-other"].User.ID.String(), "userapikey", "short"}, //
		{"a-user", "updateUser", "id", c.Users["a-other"].User.ID.String(), "firstname", "x"},       //
		{"root", "deleteUser", "id", c.Users["root"].User.ID.String()},                              // itself
	} {
		if a := c.Call(x[0], x[1], x[2:]...); a.Status == 200 {
			t.Errorf("%v: %s", x, a.Raw)
		}
	}
	c.Must("a-user", "updateUser", "id", id, "password", "a third", "currentpassword", "another one")
	a := c.Call("root", "disableUser", "id", id)
	c.Golden("disableUser", c.Job("root", a.String("jobid")))
	if a := c.Call("a-user", "listUsers"); a.Status != 401 {
		t.Errorf("a disabled user calls: %s", a.Raw)
	}
	gone := c.Must("root", "deleteUser", "id", id)
	c.Golden("deleteUser", gone)
}
